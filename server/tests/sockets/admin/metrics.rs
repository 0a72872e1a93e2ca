//! The format of `/metrics`.

use std::{
    io::{ErrorKind, Write as _},
    process::{Command, Stdio},
};

use super::request;
use crate::support::{
    client::{Client, text},
    process::{Server, serve},
};

#[test]
fn metrics_have_the_format_of_the_accept_header() {
    let server = Server::spawn(&mut serve("--shards 1"));
    let text = "text/plain; version=0.0.4; charset=utf-8";
    let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    for (accept, expected) in [
        ("", text),
        ("Accept: */*\r\n", text),
        ("Accept: application/openmetrics-text\r\n", open),
        (
            "Accept: text/plain;q=0.5\r\nAccept: application/openmetrics-text;q=0.4\r\n",
            text,
        ),
    ] {
        let response = request(&server, "GET", "/metrics", accept, "");
        assert_eq!(response.header("content-type"), Some(expected), "{accept}");
        assert_eq!(response.body.ends_with("# EOF\n"), expected == open);
        let type_line = match expected == open {
            true => "# TYPE tidewheel_opens counter\n",
            false => "# TYPE tidewheel_opens_total counter\n",
        };
        assert!(response.body.contains(type_line), "{}", response.body);
        // The samples are the same in both formats.
        assert!(
            response
                .body
                .contains("\ntidewheel_opens_total{shard=\"0\"} 0\n")
        );
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_open_fds",
            "process_max_fds",
            "process_start_time_seconds",
            "process_threads",
        ] {
            let line = |it: &&str| it.starts_with(&format!("{name} "));
            let line = response.body.lines().find(line);
            let line = line.unwrap_or_else(|| panic!("{name} is not in:\n{}", response.body));
            let (_, value) = line.split_once(' ').expect("a value");
            let value: f64 = value.parse().expect("a number");
            assert!(value > 0.0 || name.contains("cpu"), "{line}");
        }
    }
}

#[test]
fn promtool_accepts_the_metrics() {
    let server = Server::spawn(&mut serve("--shards 2"));
    let mut client = Client::open(&server);
    client.send(&text("counted"));
    client.expect(0x81, "counted");
    let metrics = request(&server, "GET", "/metrics", "", "").body;
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            assert!(
                std::env::var("TIDEWHEEL_INTEROP").as_deref() != Ok("required"),
                "promtool is not installed, and TIDEWHEEL_INTEROP=required"
            );
            eprintln!("skipped: promtool is not installed");
            return;
        }
        child => child.expect("promtool starts"),
    };
    let mut stdin = child.stdin.take().expect("the stream is piped");
    stdin.write_all(metrics.as_bytes()).expect("promtool reads");
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");
    let messages = [output.stdout, output.stderr].concat();
    let messages = String::from_utf8_lossy(&messages);
    assert!(output.status.success() && messages.is_empty(), "{messages}");
}
