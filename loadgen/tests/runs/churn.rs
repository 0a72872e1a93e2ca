//! The churn, for a moment.

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

fn assert_every_way_was_taken(run: &Run) {
    let figures = run.at("/figures").as_object().unwrap();
    let ways: Vec<_> = figures
        .iter()
        .filter(|(name, _)| name.starts_with("churn.") && *name != "churn.rate")
        .collect();
    assert_eq!(ways.len(), 13);
    assert!(
        ways.iter().all(|(_, count)| count.as_f64().unwrap() > 0.0),
        "{ways:?}"
    );
}

#[test]
fn nothing_stays_of_connections_that_end_in_all_ways() {
    let run = run(&[&SHORT[..], &["--seed", "7"]].concat());
    run.assert_ends_as_asked();
    assert_every_way_was_taken(&run);
    // 600 connections of the churn, and those of the probe.
    assert_eq!(run.number("/connections"), 664.0);
    let outcomes = run.at("/outcomes").as_object().unwrap();
    let total: f64 = outcomes.values().map(|count| count.as_f64().unwrap()).sum();
    assert_eq!(total, 664.0, "{outcomes:?}");
    assert_eq!(run.number("/figures/server.connections_left"), 0.0);
    assert_eq!(run.number("/figures/server.sockets_left"), 0.0);
    assert_eq!(*run.at("/generator/seed"), 7);
}

#[test]
fn a_rate_that_the_connections_do_not_allow_is_told() {
    let few = [
        "--connections",
        "20",
        "--warm-up",
        "0s",
        "--duration",
        "500ms",
    ];
    let run = run(&[&["churn"], &few[..]].concat());
    run.assert_ends_as_asked();
    let notes = run.at("/notes").to_string();
    let told = "longer than the 500ms planned: all 20 connections were in use (--connections)";
    assert!(notes.contains("the measured part took"), "{notes}");
    assert!(notes.contains(told), "{notes}");
}

#[test]
fn a_server_that_keeps_connections_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        // It accepts, and that is all.
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
fn a_server_that_holds_on_to_silent_clients_is_found_out() {
    // A port that was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    // It pings after 20 s, and is said to ping after 200 ms.
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
        reasons.contains("connections ended otherwise than asked for"),
        "{reasons}"
    );
}
