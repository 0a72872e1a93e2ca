//! `--help` and `--version`.

use crate::{output, support::process::tidewheel};

/// Returns the help of a subcommand, with each run of white space as one space.
fn help(subcommand: &str) -> String {
    let (status, stdout, _) = output(tidewheel().args([subcommand, "--help"]));
    assert_eq!(status, Some(0));
    stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn help_lists_the_most_used_options_first() {
    for subcommand in ["serve", "echo"] {
        let help = help(subcommand);
        let mut at = 0;
        for part in [
            "Usage: ",
            " --listen ",
            " --admin ",
            " --publish-token ",
            " --origin ",
            " --subprotocol ",
            " --config ",
            " Connections: ",
            " --max-connections ",
            " --max-request-size ",
            " --max-request-headers ",
            " Deadlines: ",
            " --ping-interval ",
            " Messages: ",
            " --max-message-size ",
            " Slow clients: ",
            " --max-send-queue ",
            " Shutting down: ",
            " --drain-interval ",
            " Log: ",
            " --log-format ",
            "A DURATION is written as",
        ] {
            let found = help[at..].find(part);
            at += found.unwrap_or_else(|| panic!("{part} is not behind byte {at} in:\n{help}"));
        }
    }
}

#[test]
fn help_of_a_subcommand_does_not_mention_the_other_subcommand() {
    let serve = help("serve");
    assert!(
        !serve.replace("?echo=false", "").contains("echo"),
        "{serve}"
    );
    assert!(serve.contains("[default: same]"), "{serve}");
    assert!(serve.contains("POST /publish/TOPIC"), "{serve}");
    let echo = help("echo");
    for other in ["tidewheel serve", "`serve`", "for serve", "?echo", "TOPIC "] {
        assert!(!echo.contains(other), "{other} is in:\n{echo}");
    }
    assert!(echo.contains("[default: any]"), "{echo}");
    assert!(echo.contains("POST /publish/all"), "{echo}");
}

#[test]
fn help_lists_the_log_levels() {
    for subcommand in ["serve", "echo"] {
        let help = help(subcommand);
        let levels = "TIDEWHEEL_LOG sets the level: off, error, warn, info (the default), debug or \
                      trace";
        assert!(help.contains(levels), "{help}");
        assert!(help.contains("tidewheel::close=debug"), "{help}");
    }
}

#[test]
fn help_and_version_exit_with_status_0() {
    let (status, stdout, _) = output(tidewheel().args(["echo", "--help"]));
    assert_eq!(status, Some(0));
    for flag in ["--listen", "--ping-interval", "--admin", "TIDEWHEEL_LISTEN"] {
        assert!(stdout.contains(flag), "{flag} is not in:\n{stdout}");
    }
    let (status, stdout, _) = output(tidewheel().arg("--version"));
    assert_eq!(status, Some(0));
    assert_eq!(stdout, format!("tidewheel {}\n", env!("CARGO_PKG_VERSION")));
}
