//! Each comparison prints a table with every server. Each run checks that echoes and deliveries are the messages.

use std::process::Command;

const ECHO: [&str; 5] = [
    "tidewheel",
    "fastwebsockets",
    "tokio-tungstenite",
    "sockudo-ws",
    "actix-ws",
];

/// Runs a comparison of one round, and returns the cells of the rows that it prints.
fn compare(arguments: &[&str]) -> Vec<Vec<String>> {
    let output = Command::new(env!("CARGO_BIN_EXE_peers"))
        .args(arguments)
        .args(["--rounds", "1"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    let rows = text.lines().filter(|line| line.starts_with("| "));
    rows.map(|row| {
        let row = row.trim_matches('|').split('|');
        row.map(|cell| cell.trim().to_owned()).collect()
    })
    .collect()
}

/// Checks that a column has the names of these servers, and the next column a cost above zero.
fn assert_costs(rows: &[Vec<String>], servers: &[&str], column: usize) {
    let named: Vec<&str> = rows.iter().map(|row| &*row[column]).collect();
    assert_eq!(named, servers);
    for row in rows {
        let (median, _) = row[column + 1].split_once(' ').unwrap();
        assert!(median.parse::<f64>().unwrap() > 0.0, "{row:?}");
    }
}

#[test]
fn every_server_echoes() {
    let short = ["echo", "--duration", "200ms", "--warm-up", "50ms"];
    let shapes = ["--shape", "20:3:16", "--shape", "1MiB:2:1"];
    let rows = compare(&[&short[..], &shapes].concat());
    let all = [&["echo-loop"], &ECHO[..]].concat();
    let (small, large) = rows[1..].split_at(all.len());
    assert_costs(small, &all, 1);
    assert_costs(large, &all, 1);
    assert_eq!(small[2][4], "1.000", "the ratio of the baseline to itself");
}

#[test]
fn every_server_completes_handshakes() {
    let rows = compare(&["connect", "--connections", "300"]);
    assert_costs(&rows[1..], &ECHO, 0);
}

#[test]
fn every_server_holds_idle_connections() {
    let rows = compare(&["idle", "--connections", "500", "--duration", "100ms"]);
    assert_costs(&rows[1..], &ECHO, 0);
}

#[test]
fn every_server_closes_and_only_tidewheel_closes_silent_clients() {
    let storm = ["close-storm", "--connections", "300", "--silent", "5"];
    let rows = compare(
        &[
            &storm[..],
            &["--only", "tidewheel"],
            &["--only", "actix-ws"],
        ]
        .concat(),
    );
    assert_costs(&rows[1..], &["tidewheel", "actix-ws"], 0);
    let silent = |row: &[String]| row.last().unwrap().clone();
    assert!(silent(&rows[1]).starts_with("gone after "), "{rows:?}");
    assert!(silent(&rows[2]).starts_with("held after "), "{rows:?}");
}

#[test]
fn every_server_fans_out() {
    let short = ["fanout", "--subscribers", "10", "--messages", "20"];
    let rows = compare(&[&short[..], &["--paced", "2"]].concat());
    let servers = [
        "send-loop",
        "tidewheel",
        "fastwebsockets",
        "tokio-tungstenite",
        "tokio-tungstenite-forward",
        "sockudo-ws",
        "actix-ws",
    ];
    let latencies = rows.len() - servers.len();
    assert_costs(&rows[1..=servers.len()], &servers, 0);
    assert_eq!(latencies, servers.len() + 2, "{rows:?}");
}

#[test]
fn a_server_echoes_with_tasks_and_without() {
    let rows = compare(&["tasks", "--duration", "200ms", "--shape", "20:3:1"]);
    assert_costs(&rows[1..], &["tidewheel", "tidewheel-tasks"], 1);
}

#[test]
fn every_server_echoes_while_it_authenticates() {
    let rows = compare(&["authentication", "--clients", "20", "--seconds", "1"]);
    let servers: Vec<&str> = rows[1..].iter().map(|row| &*row[0]).collect();
    assert_eq!(
        servers,
        [
            "tidewheel",
            "tidewheel",
            "tidewheel",
            "axum",
            "axum",
            "axum"
        ]
    );
    for row in &rows[1..] {
        let is_beside_others = row[1] != "no other clients";
        assert_eq!(row[2] != "0", is_beside_others, "{row:?}");
        assert!(row[5].parse::<f64>().unwrap() > 0.0, "{row:?}");
    }
}

#[test]
fn a_comparison_saves_its_run() {
    let directory = std::env::temp_dir().join(format!("tidewheel-peers-{}", std::process::id()));
    let results = directory.to_str().unwrap();
    compare(&[
        "connect",
        "--connections",
        "20",
        "--only",
        "tidewheel",
        "--results",
        results,
    ]);
    let runs = benches::results::load(&directory).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].columns, ["tidewheel"]);
    assert_eq!(runs[0].rows[0].n, Some(1));
    assert!(!runs[0].command.contains(results), "{}", runs[0].command);
}
