//! Scenarios drain, slow-consumers, scale, idle and connect against a child server.

use crate::harness::{loadgen, run, text};

#[test]
fn a_server_that_gets_sigterm_sends_close_1001() {
    let arguments = ["drain", "--connections", "100", "--lead", "200ms"];
    let run = run(&[&arguments[..], &["--close-timeout", "500ms"]].concat());
    run.assert_passed();
    assert_eq!(run.number("/outcomes/dismissed"), 50.0);
    assert_eq!(run.number("/outcomes/let_go"), 50.0);
    assert_eq!(run.number("/latencies/goodbye/corrected/count"), 50.0);
    assert_eq!(run.number("/latencies/fin/corrected/count"), 50.0);
    let seconds = run.number("/figures/drain.exit_seconds");
    assert!((0.5..=1.3).contains(&seconds), "{seconds}");
}

#[test]
fn a_drain_without_silent_clients_ends_before_the_close_timeout() {
    let arguments = ["drain", "--connections", "50", "--lead", "100ms"];
    let run = run(&[&arguments[..], &["--mute", "0%"]].concat());
    run.assert_passed();
    run.assert_all("dismissed", 50);
    // The close timeout is 2 s.
    assert!(run.number("/figures/drain.exit_seconds") < 1.9);
}

#[test]
fn drain_with_url_needs_server_cmd() {
    let arguments = ["drain", "--url", "ws://127.0.0.1:9/"];
    let output = loadgen(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("--server-cmd"));
}

#[test]
fn slow_consumers_are_reset_and_the_others_close() {
    let arguments = [
        "slow-consumers",
        "--connections",
        "40",
        "--duration",
        "500ms",
        "--rate",
        "200",
    ];
    let run = run(&arguments);
    assert_eq!(run.number("/connections"), 40.0);
    assert_eq!(run.number("/outcomes/closed"), 38.0);
    assert_eq!(run.number("/outcomes/reset"), 2.0);
    assert_eq!(run.number("/figures/lost"), 0.0);
    for phase in ["before", "during"] {
        let count = run.number(&format!("/latencies/{phase}/corrected/count"));
        assert_eq!(count, 100.0, "{phase}");
    }
    assert!(run.number("/figures/server.bytes_per_slow_client") > 0.0);
}

#[test]
fn scale_runs_all_steps_on_several_rings() {
    let arguments = ["scale", "--connections", "300", "--hold", "1s"];
    let spans = [
        "--sweep",
        "300ms",
        "--window",
        "300ms",
        "--ping-interval",
        "200ms",
        "--stall",
        "1s",
    ];
    // A low limit of descriptors requires several rings and shards.
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 200 && exec \"$0\" \"$@\" --json"])
        .arg(env!("CARGO_BIN_EXE_loadgen"))
        .args([&arguments[..], &spans].concat())
        .output()
        .unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    let number = |pointer: &str| document.pointer(pointer).unwrap().as_f64().unwrap();
    assert_eq!(number("/outcomes/closed"), 300.0, "{document:#}");
    assert_eq!(number("/connections"), 300.0);
    assert!(number("/generator/rings") > 1.0);
    assert!(number("/figures/stall.pings") >= 300.0);
    assert_eq!(number("/latencies/probe/corrected/count"), 200.0);
    assert_eq!(number("/latencies/sweep/corrected/count"), 300.0);
    assert_eq!(number("/latencies/fin/corrected/count"), 300.0);
    assert!(number("/figures/pings") >= 600.0);
    assert_eq!(number("/figures/broadcast.published"), 3.0);
    assert_eq!(number("/figures/broadcast.delivered"), 900.0);
    assert_eq!(number("/latencies/broadcast/corrected/count"), 900.0);
    assert_eq!(number("/latencies/last/corrected/count"), 3.0);
    assert_eq!(number("/figures/lost"), 0.0);
}

#[test]
fn all_clients_reconnect_after_a_restart() {
    let arguments = ["drain", "--restart", "--connections", "60", "--mute", "25%"];
    let short = ["--lead", "100ms", "--close-timeout", "1s"];
    let run = run(&[&arguments[..], &short, &["--back-within", "200ms"]].concat());
    run.assert_passed();
    assert_eq!(run.number("/outcomes/dismissed"), 45.0);
    assert_eq!(run.number("/outcomes/let_go"), 15.0);
    assert_eq!(run.number("/outcomes/closed"), 60.0);
    assert_eq!(run.number("/figures/restart.back"), 60.0);
    assert_eq!(run.number("/latencies/outage/corrected/count"), 60.0);
    // The second server accepted connections before the first one had ended.
    let serving = run.number("/figures/restart.serving_seconds");
    assert!(
        serving < run.number("/figures/drain.exit_seconds"),
        "{serving}"
    );
    let answered = run.number("/figures/echo.answered");
    assert!(
        answered > 100.0,
        "few echoes, none after the restart: {answered}"
    );
}

#[test]
fn idle_connections_are_pinged_and_stay_open() {
    let arguments = ["idle", "--connections", "100", "--duration", "1s"];
    let run = run(&[&arguments[..], &["--ping-interval", "250ms"]].concat());
    assert_eq!(run.status, 0, "{:#}", run.document);
    run.assert_all("closed", 100);
    assert!(run.number("/figures/pings") >= 200.0);
    assert_eq!(run.number("/figures/held"), 100.0);
    for name in [
        "server.bytes_per_connection",
        "generator.bytes_per_connection",
        "kernel.bytes_per_connection",
        "keepalive.server_cpu_per_ping",
    ] {
        run.at(&format!("/figures/{name}"));
    }
}

#[test]
fn a_herd_reconnects() {
    let run = run(&["connect", "--connections", "300", "--herd"]);
    run.assert_passed();
    assert_eq!(run.number("/connections"), 600.0);
    assert_eq!(run.number("/outcomes/closed"), 300.0);
    assert_eq!(run.number("/outcomes/reset"), 300.0);
    for latency in ["open", "reopen"] {
        let count = run.number(&format!("/latencies/{latency}/corrected/count"));
        assert_eq!(count, 300.0, "{latency}");
    }
    assert!(run.number("/figures/herd.rate") > 0.0);
}
