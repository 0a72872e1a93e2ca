//! What is refused, and how.

use crate::harness::{loadgen, text};

fn assert_refused(arguments: &[&str], message: &str) {
    let output = loadgen(arguments).output().unwrap();
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {printed}");
    assert!(output.stdout.is_empty(), "{printed}");
    assert!(printed.contains(message), "{arguments:?}: {printed}");
}

#[test]
fn wrong_flags_and_values_are_refused() {
    assert_refused(&["--conections", "5"], "--conections");
    assert_refused(&["flood"], "flood");
    assert_refused(&["--mode", "fast"], "possible values: close, reset, silent");
    assert_refused(&["--connections", "0"], "the least is 1");
    assert_refused(&["--connections", "many"], "500, 10k or 1M");
    assert_refused(&["--timeout", "5"], "20s, 500ms, 1.5s");
    assert_refused(&["--url", "wss://127.0.0.1:1/"], "TLS");
    assert_refused(&["--url", "127.0.0.1:1"], "ws://");
    let silent_over_time = ["--mode", "silent", "--window", "1s"];
    assert_refused(&silent_over_time, "no meaning with --mode silent");
}

#[test]
fn more_than_the_host_allows_is_refused_with_what_would_allow_it() {
    // Above the highest port that there is, and above every limit of descriptors but infinity.
    let output = loadgen(&["--connections", "4000M"]).output().unwrap();
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(2), "{printed}");
    assert!(
        printed.contains("`ulimit -n ") || printed.contains("`sysctl -w "),
        "{printed}"
    );
}

#[test]
fn what_nobody_can_know_is_refused() {
    // TEST-NET-1 (RFC 5737) is on no host.
    for mode in ["reset", "silent"] {
        let arguments = ["--mode", mode, "--url", "ws://192.0.2.1:80/"];
        assert_refused(&arguments, "cannot be known");
    }
}

#[test]
fn help_explains_what_is_measured_and_the_exit_status() {
    let output = loadgen(&["close-storm", "--help"]).output().unwrap();
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(0));
    for words in [
        "planned moment",
        "lateness",
        "Exit status",
        "INVALID",
        "--window",
    ] {
        assert!(printed.contains(words), "{words}: {printed}");
    }
}
