//! The three modes of close-storm against a child server.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
};

use crate::harness::{Run, loadgen, run, text};
use rustix::process::{Pid, Signal, kill_process};

/// Checks that the child has ended.
fn assert_child_is_gone(run: &Run) {
    let pid = run.number("/server/process_id");
    assert!(
        !PathBuf::from(format!("/proc/{pid}")).exists(),
        "process {pid} is running"
    );
}

fn assert_ascending(run: &Run, pointer: &str) {
    let keys = ["min", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
    let values = keys.map(|key| run.number(&format!("{pointer}/{key}")));
    assert!(values.is_sorted(), "{pointer}: {values:?}");
}

#[test]
fn every_connection_closes_with_1000_and_fin() {
    let run = run(&["--connections", "200"]);
    run.assert_passed();
    run.assert_all("closed", 200);
    assert_eq!(run.number("/server/causes/peer_close"), 200.0);
    assert_eq!(run.number("/latencies/lateness/corrected/count"), 200.0);
    for latency in ["/latencies/close", "/latencies/fin"] {
        for kind in ["corrected", "uncorrected"] {
            assert_eq!(run.number(&format!("{latency}/{kind}/count")), 200.0);
            assert_ascending(&run, &format!("{latency}/{kind}"));
        }
        let max = |kind| run.number(&format!("{latency}/{kind}/max"));
        assert!(max("corrected") >= max("uncorrected"));
        assert!(max("uncorrected") > 0.0);
    }
    assert!(run.number("/figures/server.cpu_seconds") > 0.0);
    assert!(run.number("/figures/server.resident_bytes") > 0.0);
    assert_child_is_gone(&run);
}

#[test]
fn closes_are_spread_over_the_window() {
    let run = run(&["close-storm", "--connections", "100", "--window", "300ms"]);
    run.assert_passed();
    run.assert_all("closed", 100);
    // The last of a hundred is due at 297 ms.
    assert!(run.number("/figures/window_seconds") >= 0.297);
}

#[test]
fn the_server_frees_reset_connections_within_a_second() {
    let run = run(&["--mode", "reset", "--connections", "200"]);
    run.assert_passed();
    run.assert_all("reset", 200);
    assert_eq!(run.number("/server/causes/reset"), 200.0);
    assert!(run.number("/figures/emptied.seconds") <= 1.0);
    assert!(
        run.number("/figures/emptied.resolution_seconds") <= run.number("/figures/emptied.seconds")
    );
    assert_child_is_gone(&run);
}

#[test]
fn the_server_ends_silent_connections_and_leaves_no_orphans() {
    let deadlines = ["--ping-interval", "300ms", "--ping-timeout", "200ms"];
    let arguments = [
        "--mode",
        "silent",
        "--connections",
        "200",
        "--close-timeout",
        "100ms",
    ];
    let run = run(&[&arguments[..], &deadlines].concat());
    run.assert_passed();
    run.assert_all("let_go", 200);
    assert_eq!(run.number("/figures/emptied.bound_seconds"), 1.4);
    // Pings can be an eighth of the interval early, and only the first one was answered.
    let seconds = run.number("/figures/emptied.seconds");
    assert!((0.2..=1.4).contains(&seconds), "{seconds}");
    assert_eq!(run.number("/figures/emptied.orphans"), 0.0);
    assert_eq!(run.number("/server/causes/ping_timeout"), 200.0);
    assert_child_is_gone(&run);
}

#[test]
fn an_interrupt_ends_the_child() {
    let deadlines = ["--ping-interval", "60s", "--ping-timeout", "60s"];
    let arguments = ["--mode", "silent", "--connections", "20"];
    let mut generator = loadgen(&[&arguments[..], &deadlines].concat())
        .spawn()
        .unwrap();
    let pid = generator.id();
    let mut stderr = BufReader::new(generator.stderr.take().unwrap()).lines();
    let silent = stderr.find(|line| line.as_ref().unwrap().starts_with("silent"));
    assert!(
        silent.is_some(),
        "the generator does not wait for the server"
    );
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let server = PathBuf::from(format!("/proc/{}", children.trim()));
    assert!(server.join("stat").exists(), "{server:?}");
    kill_process(Pid::from_child(&generator), Signal::INT).unwrap();
    let output = generator.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert!(output.stdout.is_empty());
    assert!(!server.exists(), "{server:?}");
}
