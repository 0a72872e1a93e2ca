//! `--publish-token`.

use crate::{
    output,
    support::process::{echo, tidewheel},
};

#[test]
fn a_publish_token_that_is_invalid_in_a_header_is_an_error_that_does_not_print_it() {
    for (token, part) in [
        ("", "the publish token is empty"),
        (" ", "character 1 of the publish token"),
        ("s3cret word", "character 7 of the publish token"),
        ("s3cret\n", "character 7 of the publish token"),
        ("s3cret\u{7f}", "character 7 of the publish token"),
        ("s3crät", "character 5 of the publish token"),
    ] {
        let mut by_flag = echo("");
        by_flag.args(["--publish-token", token]);
        let mut by_variable = echo("");
        by_variable.env("TIDEWHEEL_PUBLISH_TOKEN", token);
        for command in [&mut by_flag, &mut by_variable] {
            let (status, stdout, stderr) = output(command);
            assert_eq!(status, Some(2), "{token:?}: {stdout}{stderr}");
            assert!(stderr.starts_with("error: --publish-token"), "{stderr}");
            assert!(stderr.contains(part), "{token:?}: {stderr}");
            assert!(
                !stderr.contains("s3cr"),
                "the error prints the token: {stderr}"
            );
        }
    }
}

#[test]
fn a_publish_token_without_an_admin_listener_logs_a_warning() {
    for (flags, warns) in [
        ("--admin off --publish-token s3cret", true),
        ("--admin off", false),
        ("--publish-token s3cret", false),
    ] {
        // The address is in use, so the program ends once it has read its options.
        let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = other
            .local_addr()
            .expect("the listener is bound")
            .to_string();
        let mut command = tidewheel();
        command.args(["serve", "--listen", &address]);
        if !flags.contains("--admin") {
            command.args(["--admin", "127.0.0.1:0"]);
        }
        let (_, _, log) = output(command.args(flags.split_whitespace()));
        let warned = log.contains("WARN") && log.contains("--publish-token has no effect");
        assert_eq!(warned, warns, "{flags}: {log}");
        assert!(!log.contains("s3cret"), "{log}");
    }
}
