//! `TIDEWHEEL_LOG` and `--log-format`.

use rustix::process::Signal;

use crate::{
    assert_fails,
    support::{
        ms,
        process::{Server, echo},
    },
};

#[test]
fn an_invalid_log_level_is_an_error_with_status_2() {
    for value in ["verbose", "info,loud", "tidewheel::close=loud", "7", "2"] {
        let mut command = echo("");
        command.env("TIDEWHEEL_LOG", value);
        let parts = [
            "TIDEWHEEL_LOG",
            "write off, error, warn, info, debug or trace",
        ];
        assert_fails(&mut command, 2, &parts);
    }
    for (value, part) in [
        ("warning", "write warn"),
        ("info,", "an extra comma in `info,`"),
        (
            "info;tidewheel::close=debug",
            "separate targets with commas",
        ),
        ("close=debug", "write tidewheel::close=debug"),
        ("warn,error", "two levels"),
    ] {
        let parts = ["TIDEWHEEL_LOG", part];
        assert_fails(echo("").env("TIDEWHEEL_LOG", value), 2, &parts);
    }
    for value in ["tidewheel::clsoe=debug", "tidewheell=debug"] {
        let (target, _) = value.split_once('=').expect("a target and a level");
        let parts = [
            "TIDEWHEEL_LOG",
            &format!("`{target}` is not a log target"),
            "close",
        ];
        assert_fails(echo("").env("TIDEWHEEL_LOG", value), 2, &parts);
    }
    for (value, is_logged) in [
        ("", true),
        ("info", true),
        ("DEBUG", true),
        ("tidewheel=info", true),
        ("warn", false),
        ("off", false),
    ] {
        let server = Server::spawn(echo("").env("TIDEWHEEL_LOG", value));
        server.signal(Signal::TERM);
        let (status, log) = server.wait(ms(5000));
        assert_eq!(status.code(), Some(0));
        assert_eq!(log.contains("draining"), is_logged, "{value}: {log}");
    }
}

#[test]
fn log_format_json_writes_each_line_as_an_object() {
    let server = Server::start("--log-format json");
    server.signal(Signal::TERM);
    let (status, log) = server.wait(ms(5000));
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("draining"));
    for line in log.lines() {
        let is_object = line.starts_with("{\"timestamp\":\"") && line.ends_with('}');
        assert!(is_object, "not a JSON object: {line}");
    }
}
