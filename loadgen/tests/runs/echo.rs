//! Scenario echo, and the options that describe a server.

use std::{
    io::{Read, Write},
    net::SocketAddr,
};

use crate::{
    harness::{run, text},
    misbehaving_servers::{open, read_frame, serve},
};

#[test]
fn a_closed_loop_loses_nothing() {
    let arguments = [
        "echo",
        "--connections",
        "20",
        "--in-flight",
        "4",
        "--duration",
        "500ms",
        "--warm-up",
        "100ms",
    ];
    let run = run(&arguments);
    run.assert_passed();
    run.assert_all("closed", 20);
    let measured = run.number("/latencies/echo/corrected/count");
    assert!(measured > 100.0, "{measured}");
    assert!(run.number("/figures/echo.messages") > measured);
    assert!(run.number("/figures/echo.rate") > 100.0);
    assert_eq!(run.number("/figures/lost"), 0.0);
    assert!(run.number("/figures/server.cpu_seconds_per_million") > 0.0);
}

#[test]
fn an_open_loop_sends_the_planned_number_of_messages() {
    let arguments = [
        "echo",
        "--connections",
        "10",
        "--rate",
        "500",
        "--duration",
        "1s",
        "--warm-up",
        "200ms",
    ];
    let run = run(&arguments);
    run.assert_passed();
    run.assert_all("closed", 10);
    assert_eq!(run.number("/latencies/echo/corrected/count"), 500.0);
    assert_eq!(run.number("/latencies/lateness/corrected/count"), 500.0);
    assert_eq!(run.number("/figures/echo.messages"), 600.0);
    let p99 = |kind| run.number(&format!("/latencies/echo/{kind}/p99"));
    assert!(p99("corrected") >= p99("uncorrected"));
}

#[test]
fn messages_of_all_sizes_come_back_unchanged() {
    for size in ["1", "4KiB", "1MiB"] {
        let arguments = ["echo", "--connections", "4", "--in-flight", "3", "--size"];
        let short = [size, "--duration", "300ms", "--warm-up", "0s"];
        let run = run(&[&arguments[..], &short].concat());
        run.assert_passed();
        run.assert_all("closed", 4);
        assert_eq!(run.number("/figures/altered"), 0.0, "{size}");
        assert_eq!(run.number("/figures/out_of_order"), 0.0, "{size}");
    }
}

/// Starts a server that echoes each message after `change` has modified it. If `change` returns
/// false, the message is dropped.
fn changing(change: fn(usize, &mut Vec<u8>) -> bool) -> SocketAddr {
    serve(move |stream| {
        open(stream)?;
        for number in 0.. {
            let (first, mut payload) = read_frame(stream)?;
            if first == 0x88 {
                let mut close = vec![0x88, 2];
                close.extend(payload);
                return stream.write_all(&close);
            }
            if change(number, &mut payload) {
                let mut frame = vec![first, u8::try_from(payload.len()).unwrap()];
                frame.extend(payload);
                stream.write_all(&frame)?;
            }
        }
        stream.read_to_end(&mut Vec::new()).map(drop)
    })
}

fn echo(address: SocketAddr) -> crate::harness::Run {
    let url = format!("ws://{address}/");
    run(&[
        "echo",
        "--url",
        &url,
        "--connections",
        "2",
        "--size",
        "32",
        "--duration",
        "300ms",
        "--warm-up",
        "0s",
        "--timeout",
        "300ms",
    ])
}

#[test]
fn an_unanswered_message_is_lost() {
    let run = echo(changing(|number, _| number != 3));
    assert_eq!(run.number("/figures/lost"), 2.0);
    assert!(run.status > 0, "{:#}", run.document);
}

#[test]
fn a_server_that_reads_late_gets_all_messages_in_order() {
    let address = serve(|stream| {
        open(stream)?;
        // The socket buffers of both ends fill up.
        let (_never, silence) = std::sync::mpsc::channel::<()>();
        let _ = silence.recv_timeout(std::time::Duration::from_millis(400));
        let mut stream = std::io::BufReader::new(stream);
        loop {
            let mut header = [0; 6];
            stream.read_exact(&mut header)?;
            let mut payload = vec![0; usize::from(header[1] & 0x7f)];
            stream.read_exact(&mut payload)?;
            for (index, byte) in payload.iter_mut().enumerate() {
                *byte ^= header[2 + index % 4];
            }
            let mut frame = vec![header[0], header[1] & 0x7f];
            frame.extend(payload);
            stream.get_mut().write_all(&frame)?;
            if header[0] == 0x88 {
                return Ok(());
            }
        }
    });
    let url = format!("ws://{address}/");
    let arguments = ["echo", "--url", &url, "--connections", "2", "--size", "100"];
    let flood = [
        "--in-flight",
        "60k",
        "--duration",
        "100ms",
        "--warm-up",
        "0s",
    ];
    let run = run(&[&arguments[..], &flood].concat());
    assert_eq!(run.number("/outcomes/closed"), 2.0, "{:#}", run.document);
    for name in ["lost", "altered", "out_of_order"] {
        assert_eq!(run.number(&format!("/figures/{name}")), 0.0, "{name}");
    }
    assert!(run.number("/figures/echo.messages") >= 120_000.0);
}

#[test]
fn an_altered_echo_is_counted_and_explained() {
    let run = echo(changing(|number, payload| {
        if number == 5 {
            payload.pop();
        }
        true
    }));
    assert_eq!(run.number("/figures/altered"), 2.0);
    let run = echo(changing(|number, payload| {
        payload[1] ^= u8::from(number > 0);
        true
    }));
    let reasons = run.at("/reasons").to_string();
    let hint = "does this server send messages to all clients?";
    assert!(reasons.contains(hint), "{reasons}");
    let run = echo(changing(|number, payload| {
        if number == 5 {
            payload[0] ^= 1;
        }
        true
    }));
    assert_eq!(run.number("/figures/altered"), 2.0);
}

#[test]
fn the_server_of_server_cmd_is_started_measured_and_ended() {
    // A free port.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let command = format!(
        "{} __server echo --shards 1 --listen {address}",
        env!("CARGO_BIN_EXE_loadgen")
    );
    let url = format!("ws://{address}/");
    let arguments = ["echo", "--url", &url, "--server-cmd", &command];
    let short = [
        "--connections",
        "5",
        "--duration",
        "200ms",
        "--warm-up",
        "0s",
        "--header",
        "Cookie: a=b",
        "--subprotocol",
        "chat",
    ];
    let run = run(&[&arguments[..], &short].concat());
    run.assert_passed();
    assert_eq!(*run.at("/server/child"), true);
    assert!(run.number("/figures/server.cpu_seconds_per_million") > 0.0);
    assert!(run.number("/figures/server.resident_bytes") > 0.0);
    let pid = run.number("/server/process_id");
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn header_and_subprotocol_options_are_sent() {
    let address = serve(|stream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let is_complete = head.contains("\r\nCookie: a=b\r\n")
            && head.contains("\r\nSec-WebSocket-Protocol: chat\r\n");
        let answer = if is_complete {
            "418 As expected"
        } else {
            "400 Headers Missing"
        };
        stream.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes())
    });
    let url = format!("ws://{address}/");
    let output = crate::harness::loadgen(&[
        "--url",
        &url,
        "--connections",
        "1",
        "--header",
        "Cookie: a=b",
        "--subprotocol",
        "chat",
    ])
    .output()
    .unwrap();
    let printed = text(&output);
    assert!(printed.contains("418"), "{printed}");
}

#[test]
fn messages_are_made_from_the_template() {
    let arguments = ["echo", "--connections", "3", "--duration", "200ms"];
    let template = ["--message", r#"{{"from":{client},"number":{number}}}"#];
    let run = run(&[&arguments[..], &template, &["--warm-up", "0s"]].concat());
    run.assert_passed();
    run.assert_all("closed", 3);
    assert!(run.number("/figures/echo.messages") > 10.0);
    assert_eq!(run.number("/figures/altered"), 0.0);
}

#[test]
fn system_calls_of_the_server_are_counted_if_permitted() {
    let arguments = ["echo", "--count-syscalls", "--connections", "5"];
    let short = ["--duration", "300ms", "--warm-up", "0s", "--json"];
    let output = crate::harness::loadgen(&[&arguments[..], &short].concat())
        .output()
        .unwrap();
    let tracing = "/sys/kernel/tracing/events/raw_syscalls/sys_enter/id";
    if std::fs::read_to_string(tracing).is_ok() {
        let document: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
        let count = document["figures"]["server.window_syscalls"].as_f64();
        assert!(count.is_some_and(|count| count > 0.0), "{document:#}");
        let each = document["figures"]["server.syscalls_per_million"].as_f64();
        assert!(each.is_some_and(|each| each > 0.0), "{document:#}");
    } else {
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains("as root"), "{}", text(&output));
    }
}
