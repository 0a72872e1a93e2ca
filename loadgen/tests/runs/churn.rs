//! Short runs of scenario churn.

use std::{io, net::TcpListener, thread};

use crate::harness::{Run, run};

const SHORT: [&str; 7] = [
    "churn",
    "--duration",
    "1s",
    "--warm-up",
    "1s",
    "--rate",
    "300",
];

fn assert_all_kinds_of_end_occurred(run: &Run) {
    let figures = run.at("/figures").as_object().unwrap();
    let kinds: Vec<_> = figures
        .iter()
        .filter(|(name, _)| name.starts_with("churn.") && *name != "churn.rate")
        .collect();
    assert_eq!(kinds.len(), 13);
    assert!(
        kinds.iter().all(|(_, count)| count.as_f64().unwrap() > 0.0),
        "{kinds:?}"
    );
}

#[test]
fn a_child_keeps_nothing_of_connections_that_end_in_all_ways() {
    let run = run(&[&SHORT[..], &["--seed", "7"]].concat());
    run.assert_passed_or_starved();
    assert_all_kinds_of_end_occurred(&run);
    // 600 connections of the churn, and 64 of the final probe.
    assert_eq!(run.number("/connections"), 664.0);
    let outcomes = run.at("/outcomes").as_object().unwrap();
    let total: f64 = outcomes.values().map(|count| count.as_f64().unwrap()).sum();
    assert_eq!(total, 664.0, "{outcomes:?}");
    assert_eq!(run.number("/figures/server.connections_left"), 0.0);
    assert_eq!(run.number("/figures/server.sockets_left"), 0.0);
    assert_eq!(*run.at("/generator/seed"), 7);
}

#[test]
fn a_rate_limited_by_connections_is_noted() {
    let arguments = [
        "--connections",
        "20",
        "--warm-up",
        "0s",
        "--duration",
        "500ms",
    ];
    let run = run(&[&["churn"], &arguments[..]].concat());
    run.assert_passed_or_starved();
    let notes = run.at("/notes").to_string();
    let note = "longer than the 500ms planned: all 20 connections were in use (--connections)";
    assert!(notes.contains("the measured part took"), "{notes}");
    assert!(notes.contains(note), "{notes}");
}

#[test]
fn a_server_that_never_ends_connections_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        // The server accepts connections and does nothing else.
        listener.incoming().collect::<io::Result<Vec<_>>>()
    });
    let arguments = ["--url", &url, "--timeout", "300ms", "--duration", "100ms"];
    let run = run(&[
        &["churn", "--warm-up", "100ms", "--rate", "100"],
        &arguments[..],
    ]
    .concat());
    assert_eq!(run.status, 1, "{:#}", run.document);
    assert!(run.number("/outcomes/handshake_failed") > 0.0);
    assert_eq!(run.number("/outcomes/closed"), 0.0);
}

#[test]
fn a_server_with_later_timeouts_than_stated_fails() {
    // A free port.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    // The server pings after 20 s; the command line says 200 ms.
    let command = format!(
        "{} __server echo --shards 1 --listen {address}",
        env!("CARGO_BIN_EXE_loadgen")
    );
    let url = format!("ws://{address}/");
    let server = ["--url", &url, "--server-cmd", &command];
    let deadlines = [
        "--ping-interval",
        "200ms",
        "--ping-timeout",
        "200ms",
        "--close-timeout",
        "200ms",
        "--handshake-timeout",
        "200ms",
    ];
    let run = run(&[&SHORT[..], &server, &deadlines].concat());
    assert_ne!(run.status, 0, "{:#}", run.document);
    assert!(run.number("/outcomes/still_held") > 0.0);
    let reasons = run.at("/reasons").to_string();
    assert!(
        reasons.contains("connections ended unexpectedly"),
        "{reasons}"
    );
}
