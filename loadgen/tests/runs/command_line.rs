//! Errors of the command line, help texts, and the layout of the report.

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
    assert_refused(&["--connections", "0"], "the smallest count is 1");
    assert_refused(&["--connections", "many"], "500, 10k or 1M");
    assert_refused(&["--timeout", "5"], "`5` has no unit; write 5s or 5ms");
    assert_refused(&["--url", "127.0.0.1:1"], "ws://");
    assert_refused(&["--url", "https://127.0.0.1:1"], "the scheme is https://");
    assert_refused(&["--insecure"], "--url");
    let without_tls = ["--url", "ws://127.0.0.1:1/", "--insecure"];
    assert_refused(&without_tls, "no effect without a wss:// URL");
    let silent_over_time = ["--mode", "silent", "--window", "1s"];
    assert_refused(&silent_over_time, "no effect with --mode silent");
    assert_refused(&["--admin", "127.0.0.1:1"], "--url");
    assert_refused(&["echo", "--rate", "5", "--in-flight", "2"], "--in-flight");
    assert_refused(&["drain", "--mute", "200%"], "a share is");
}

#[test]
fn an_invalid_value_is_refused_with_a_valid_example() {
    let form = "write ws://HOST:PORT/PATH or wss://HOST:PORT/PATH, such as ws://127.0.0.1:9001/";
    for url in [
        "ws:/x",
        "http://",
        "localhost:9001",
        "ws://127.0.0.1:0/",
        "ws://127.0.0.1:99999/",
    ] {
        assert_refused(&["--url", url], form);
    }
    let unknown = ["--url", "ws://no.such.host.invalid/"];
    assert_refused(&unknown, "no.such.host.invalid: ");
    // A negative number is parsed as a value, not as an option.
    assert_refused(
        &["--timeout", "-5s"],
        "`-5s` is not a duration; write 20s, 500ms",
    );
    assert_refused(&["echo", "--duration", "-5s"], "`-5s` is not a duration");
    assert_refused(&["echo", "--rate", "-5"], "a count is a whole number");
    assert_refused(&["drain", "--mute", "-5%"], "a share is 0% to 100%");
    assert_refused(
        &["echo", "--size", "-1"],
        "`-1` is not a size; write 65536, 64KiB",
    );
    assert_refused(&["scale", "--broadcasts", "-1"], "-1");
    assert_refused(&["--timeout", "0s"], "the shortest duration is 1ms");
    assert_refused(
        &["echo", "--duration", "0s"],
        "the shortest duration is 1ms",
    );
    assert_refused(&["--seed", "x"], "`x` is not a seed; write a whole number");
    assert_refused(&["--shards", "0"], "1 to 65535");
    let base = ["--url", "ws://127.0.0.1:1/"];
    let header = [&base[..], &["--header", "foo"]].concat();
    assert_refused(&header, "a header is NAME: VALUE, such as 'Cookie: a=b'");
    let protocol = [&base[..], &["--subprotocol", "a b"]].concat();
    assert_refused(&protocol, "a subprotocol is one name without spaces");
    let admin = ["--url", "ws://127.0.0.1:1/", "--admin", "localhost:80"];
    assert_refused(&admin, "an address is IP:PORT, such as 127.0.0.1:9100");
    assert_refused(&["fanout", "--size", "5"], "--size is at least 8");
    assert_refused(&["fanout", "--size", "5"], "Usage: loadgen fanout");
    assert_refused(
        &["slow-consumers", "--slow", "100%"],
        "--slow is below 100%",
    );
    assert_refused(&["scale", "--stall", "1s"], "write more than 67.5s");
}

#[test]
fn gates_are_checked_before_the_run() {
    assert_refused(&["--assert", "close.p99"], "a gate is a name");
    assert_refused(
        &["--assert", "closed=5"],
        "`=` is not a relation, write `==`",
    );
    assert_refused(&["--assert", "closed=<5"], "write `<=`");
    assert_refused(&["--assert", "fin.p99<5parsecs"], "`parsecs` is not a unit");
    assert_refused(&["--assert", "fin.p99<50"], "such as fin.p99<50ms");
    assert_refused(&["--assert", "closed<5ms"], "its limit has no unit");
    assert_refused(
        &["--assert", "server.busy<50"],
        "server.busy is a share, and `50` is above 1: write a percentage, such as 50%, or a fraction",
    );
    assert_refused(&["--assert", "close.p99<-1s"], "never negative");
    let unknown = ["--assert", "fni.p99<5ms"];
    assert_refused(&unknown, "this run has no `fni.p99`; did you mean fin.p99");
    for name in [
        "server.cpu_seconds",
        "generator.busy",
        "still_held",
        "close, fin",
    ] {
        assert_refused(&unknown, name);
    }
    // Names of another scenario, and of a server that loadgen starts.
    assert_refused(&["idle", "--assert", "lost==0"], "this run has no `lost`");
    let foreign = ["--url", "ws://127.0.0.1:1/", "--assert", "server.busy<5%"];
    assert_refused(&foreign, "this run has no `server.busy`");
    assert_refused(&["connect", "--assert", "reopen.p99<1s"], "no `reopen.p99`");
    // Names of the same scenario in another mode.
    for (arguments, name) in [
        (&["echo"][..], "lateness.p99.9"),
        (&["echo"], "echo.uncorrected.p99"),
        (&["fanout", "--in-flight", "2"], "delivery.uncorrected.p99"),
        (&["close-storm"], "lateness.uncorrected.p99"),
        (&["--mode", "silent"], "lateness.p99"),
    ] {
        let gate = format!("{name}<50ms");
        let message = format!("this run has no `{name}`");
        assert_refused(&[arguments, &["--assert", &gate]].concat(), &message);
    }
    assert_refused(&["--assert", "CLOSE.p99<5s"], "did you mean close.p99");
    // Each scenario accepts its own names.
    for (scenario, gate) in [
        ("close-storm", "fin.uncorrected.p99<1s"),
        ("churn", "churn.silent>=0"),
        ("connect", "connect.rate>1/s"),
        ("drain", "goodbye.p99<1s"),
        ("echo", "lost==0"),
        ("fanout", "duplicates==0"),
        ("idle", "keepalive.server_cpu<5%"),
        ("scale", "broadcast.p99<1s"),
        ("slow-consumers", "during.p99<1s"),
    ] {
        // The first name is accepted if the error is about the second.
        assert_refused(&[scenario, "--assert", gate, "--assert", "zz<1"], "no `zz`");
    }
}

#[test]
fn more_publishers_or_topics_than_connections_are_refused() {
    for (arguments, message) in [
        (
            &["--connections", "10", "--publishers", "11"][..],
            "--publishers is 11, but there are 10 connections: write at most 10, or raise --connections",
        ),
        (
            &["--publishers", "1001"],
            "--publishers is 1001, but there are 1000 connections",
        ),
        (
            &["--connections", "10", "--topics", "11"],
            "--topics is 11, but there are 10 connections",
        ),
    ] {
        assert_refused(&[&["fanout"], arguments].concat(), message);
    }
}

#[test]
fn a_failed_run_prints_its_first_reason_first() {
    let output = loadgen(&["--url", "ws://127.0.0.1:1/", "--connections", "2"]).output();
    let output = output.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let message = "FAILED: 2 of 2 connections were refused, because no server listens at";
    assert!(printed.starts_with(message), "{printed}");
    let reasons = printed.split("\nFAILED\n").nth(1).unwrap();
    assert!(reasons.starts_with("  2 of 2 connections were refused"));
    assert!(reasons.contains("ended unexpectedly"));
}

#[test]
fn durations_in_the_report_have_the_units_of_the_command_line() {
    let arguments = ["--connections", "2", "--duration", "1ms", "--warm-up", "0s"];
    let run = crate::harness::run(&[&["echo"], &arguments[..]].concat());
    assert_eq!(*run.at("/settings/warm-up"), "0s, not measured");
    let run = crate::harness::run(&["--connections", "2", "--window", "1500ms"]);
    assert_eq!(*run.at("/settings/window"), "1.5s");
}

#[test]
fn a_server_command_that_fails_is_reported() {
    let base = ["--url", "ws://127.0.0.1:9/", "--server-cmd"];
    for (command, message) in [
        (
            "false",
            "the server failed (exit status: 1); its stderr is empty",
        ),
        ("/no/such/server", "its stderr ends with:"),
        (
            "sleep 60",
            "does not listen at 127.0.0.1:9, the address of --url, after 300ms",
        ),
    ] {
        let command = [command, "--timeout", "300ms"];
        let output = loadgen(&[&base[..], &command].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains(message), "{}", text(&output));
    }
}

#[test]
fn closed_output_pipes_cause_no_panic() {
    let pipe = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    let mut command = loadgen(&["--connections", "3", "--window", "0s"]);
    let status = command.stdout(pipe()).stderr(pipe()).status().unwrap();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn a_run_without_arguments_repeats_until_it_is_valid_or_gives_up() {
    let run = crate::harness::run(&[]);
    run.assert_passed();
    let connections = run.number("/connections");
    assert!(connections > 0.0);
    assert_eq!(run.number("/outcomes/closed"), connections);
    assert_eq!(run.number("/latencies/fin/corrected/count"), connections);
    // At most two runs were discarded, the first with all closes at one moment.
    let discarded = run.at("/discarded").as_array().unwrap();
    let windows: Vec<_> = discarded
        .iter()
        .map(|it| it["window_seconds"].as_f64())
        .collect();
    assert!([Some(0.0), Some(2.0)].starts_with(&windows), "{windows:?}");
    assert_eq!(
        run.document.pointer("/settings/window").is_some(),
        !windows.is_empty()
    );
}

#[test]
fn more_connections_than_the_host_allows_are_refused_with_the_command_to_raise_the_limit() {
    // More than all ports, and more than any finite limit of descriptors.
    let output = loadgen(&["--connections", "4000M"]).output().unwrap();
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(2), "{printed}");
    let begin = "loadgen: this host does not allow that number of connections: 4000000000 connections need ";
    assert!(printed.starts_with(begin), "{printed}");
    assert!(
        printed.contains("`ulimit -n ") || printed.contains("`sysctl -w "),
        "{printed}"
    );
}

#[test]
fn modes_reset_and_silent_need_a_local_server_with_known_deadlines() {
    // TEST-NET-1 (RFC 5737) is never a local address.
    let deadlines = "--ping-interval 1s --ping-timeout 1s --close-timeout 1s";
    let deadlines: Vec<_> = deadlines.split(' ').collect();
    for mode in ["reset", "silent"] {
        let arguments = ["--mode", mode, "--url", "ws://192.0.2.1:80/"];
        let arguments = [&arguments[..], &deadlines].concat();
        assert_refused(&arguments, "cannot be counted");
    }
    // Mode silent needs the deadlines of the server.
    let silent = ["--mode", "silent", "--url", "ws://127.0.0.1:1/"];
    assert_refused(
        &silent,
        "give those of the server of --url, with --ping-interval, --ping-timeout, \
         --close-timeout",
    );
    let some = [&silent[..], &deadlines[..4]].concat();
    assert_refused(&some, "of the server of --url, with --close-timeout");
}

const SCENARIOS: [&str; 9] = [
    "close-storm",
    "churn",
    "connect",
    "drain",
    "echo",
    "fanout",
    "idle",
    "scale",
    "slow-consumers",
];

#[test]
fn help_describes_the_scenario_and_the_exit_status() {
    for scenario in SCENARIOS {
        let output = loadgen(&[scenario, "--help"]).output().unwrap();
        let printed = text(&output);
        assert_eq!(output.status.code(), Some(0));
        for words in [
            "The run passes if",
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
fn the_report_fits_eighty_columns() {
    let runs: [&[&str]; 6] = [
        &["--connections", "50"],
        &["--connections", "50", "--mode", "reset"],
        &[
            "--connections",
            "50",
            "--assert",
            "server.resident_bytes             <1000000000000000000000000000000000000000",
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
