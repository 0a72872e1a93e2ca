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
    assert_refused(&["--url", "127.0.0.1:1"], "ws://");
    assert_refused(&["--url", "https://127.0.0.1:1"], "ws:// or wss://");
    assert_refused(&["--insecure"], "--url");
    let without_tls = ["--url", "ws://127.0.0.1:1/", "--insecure"];
    assert_refused(&without_tls, "no meaning without wss://");
    let silent_over_time = ["--mode", "silent", "--window", "1s"];
    assert_refused(&silent_over_time, "no meaning with --mode silent");
    assert_refused(&["--assert", "close.p99"], "a gate is a name");
    assert_refused(&["--admin", "127.0.0.1:1"], "--url");
    assert_refused(&["echo", "--rate", "5", "--in-flight", "2"], "--in-flight");
    assert_refused(&["drain", "--mute", "200%"], "a share is");
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

const SCENARIOS: [&str; 8] = [
    "close-storm",
    "churn",
    "connect",
    "drain",
    "echo",
    "idle",
    "scale",
    "slow-consumers",
];

#[test]
fn help_explains_what_is_measured_and_the_exit_status() {
    for scenario in SCENARIOS {
        let output = loadgen(&[scenario, "--help"]).output().unwrap();
        let printed = text(&output);
        assert_eq!(output.status.code(), Some(0));
        for words in [
            "Asked for",
            "Exit status",
            "INVALID",
            "--assert",
            "--out",
            "--url",
        ] {
            assert!(printed.contains(words), "{scenario}: {words}: {printed}");
        }
    }
    let output = loadgen(&["--help"]).output().unwrap();
    for scenario in SCENARIOS {
        assert!(text(&output).contains(scenario), "{scenario}");
    }
}

#[test]
fn the_summary_fits_eighty_columns() {
    let runs: [&[&str]; 6] = [
        &["--connections", "50"],
        &["--connections", "50", "--mode", "reset"],
        &[
            "--connections",
            "50",
            "--assert",
            "no.such.figure.as.this.one.that.is.very.long.indeed<1",
        ],
        &[
            "connect",
            "--connections",
            "50",
            "--herd",
            "--window",
            "10ms",
        ],
        &[
            "echo",
            "--connections",
            "5",
            "--duration",
            "100ms",
            "--warm-up",
            "0s",
        ],
        &[
            "idle",
            "--connections",
            "50",
            "--duration",
            "100ms",
            "--ping-interval",
            "1s",
        ],
    ];
    for arguments in runs {
        let output = loadgen(arguments).output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let longest = stdout.lines().max_by_key(|line| line.chars().count());
        let longest = longest.expect("there is a summary");
        assert!(longest.chars().count() <= 80, "{longest}");
        assert!(stdout.contains("connections "), "{stdout}");
    }
}
