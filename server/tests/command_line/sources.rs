//! Precedence and errors of flags, environment and configuration file.

use std::process::Command;

use rustix::process::Signal;

use crate::{
    assert_fails, config_file, output,
    support::{
        client::{BINARY, Client, FIN, binary},
        ms,
        process::{Server, echo, serve},
    },
};

/// Asserts that the server accepts a message of `limit` bytes and rejects one of a byte more.
fn assert_message_size_max(command: &mut Command, limit: usize) {
    let server = Server::spawn(command);
    let mut client = Client::open(&server);
    client.send(&binary(&vec![0; limit]));
    client.expect(FIN | BINARY, vec![0; limit]);
    client.send(&binary(&vec![0; limit + 1]));
    assert_eq!(client.frame().close_code(), 1009);
}

#[test]
fn a_flag_overrides_a_variable_and_a_variable_overrides_the_file() {
    let file = config_file("max-message-size = '1KiB'\nshards = 1\n");
    let path = file.path().to_str().expect("a name in UTF-8");
    let with_file = format!("--config {path}");
    let variable = "TIDEWHEEL_MAX_MESSAGE_SIZE";

    assert_message_size_max(&mut echo(&with_file), 1024);
    assert_message_size_max(echo(&with_file).env(variable, "2KiB"), 2048);
    let with_flag = format!("{with_file} --max-message-size 3KiB");
    assert_message_size_max(echo(&with_flag).env(variable, "2KiB"), 3072);
    assert_message_size_max(echo("").env("TIDEWHEEL_CONFIG", path), 1024);
}

#[test]
fn an_unknown_key_or_invalid_value_in_the_file_is_an_error_with_status_2() {
    for (text, part) in [
        ("pong-interval = '1s'", "did you mean ping-interval?"),
        ("ping-interval = '1x'", "`1x` is not a duration"),
        ("ping-interval", "cannot be parsed"),
        (
            "ping-interval = 15",
            "ping-interval: `15` has no unit; write 15s or 15ms",
        ),
        (
            "listen = 8080",
            "listen: `8080` has no host; write 127.0.0.1:8080",
        ),
        ("listen = 127.0.0.1:8080", "listen = \"127.0.0.1:8080\""),
        (
            "max-message-size = 0",
            "max-message-size: the maximum message size is 0",
        ),
    ] {
        let file = config_file(text);
        let path = file.path().to_str().expect("a name in UTF-8");
        assert_fails(&mut echo(&format!("--config {path}")), 2, &[path, part]);
    }
    let invalid = &mut echo("");
    invalid.env("TIDEWHEEL_PING_INTERVAL", "soon");
    let parts = [
        "`soon` is not a duration",
        "--ping-interval",
        "TIDEWHEEL_PING_INTERVAL",
    ];
    assert_fails(invalid, 2, &parts);
    // The flag overrides the variable, so the error is about the flag.
    let invalid = &mut echo("--ping-interval never");
    invalid.env("TIDEWHEEL_PING_INTERVAL", "1s");
    let (_, _, stderr) = output(invalid);
    assert!(!stderr.contains("TIDEWHEEL_PING_INTERVAL"), "{stderr}");
}

#[test]
fn unknown_variables_are_logged_in_one_warning() {
    for mut command in [echo(""), serve("")] {
        command.env("TIDEWHEEL_PING_INTERVALL", "1s");
        command.env("TIDEWHEEL_PORT", "tcp://10.0.0.1:80");
        command.env("TIDEWHEEL_LOG_FORMAT", "text");
        let server = Server::spawn(&mut command);
        server.signal(Signal::TERM);
        let (status, log) = server.wait(ms(5000));
        assert_eq!(status.code(), Some(0));
        let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
        let end =
            "TIDEWHEEL_PING_INTERVALL (did you mean TIDEWHEEL_PING_INTERVAL?), TIDEWHEEL_PORT";
        assert_eq!(warnings.len(), 1, "{log}");
        assert!(warnings[0].ends_with(end), "{log}");
    }
}
