//! Each comparison comes to a table with every server in it. Each run of it makes sure that what
//! comes back is what was sent.

use std::process::Command;

const ECHO: [&str; 5] = [
    "tidewheel",
    "fastwebsockets",
    "tokio-tungstenite",
    "sockudo-ws",
    "actix-ws",
];

/// The rows of the tables that a comparison of one round prints, each as its cells.
fn compare(arguments: &[&str]) -> Vec<Vec<String>> {
    let output = Command::new(env!("CARGO_BIN_EXE_peers"))
        .args(arguments)
        .args(["--rounds", "1"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{said}");
    let rows = text.lines().filter(|line| line.starts_with("| "));
    rows.map(|row| {
        let row = row.trim_matches('|').split('|');
        row.map(|cell| cell.trim().to_owned()).collect()
    })
    .collect()
}

/// Checks that the rows below the head are of these servers, named in this column, each with a
/// cost above zero in the next.
fn assert_costs(rows: &[Vec<String>], servers: &[&str], column: usize) {
    let named: Vec<&str> = rows.iter().map(|row| &*row[column]).collect();
    assert_eq!(named, servers);
    for row in rows {
        let (median, _) = row[column + 1].split_once(' ').unwrap();
        assert!(median.parse::<f64>().unwrap() > 0.0, "{row:?}");
    }
}

#[test]
fn all_echo() {
    let short = ["echo", "--duration", "200ms", "--warm-up", "50ms"];
    let shapes = ["--shape", "20:3:16", "--shape", "1MiB:2:1"];
    let rows = compare(&[&short[..], &shapes].concat());
    let all = [&["echo-loop"], &ECHO[..]].concat();
    let (small, large) = rows[1..].split_at(all.len());
    assert_costs(small, &all, 1);
    assert_costs(large, &all, 1);
    assert_eq!(small[2][4], "1.000", "the baseline is compared with itself");
}

#[test]
fn all_let_clients_connect() {
    let rows = compare(&["connect", "--connections", "300"]);
    assert_costs(&rows[1..], &ECHO, 0);
}

#[test]
fn all_hold_idle_connections() {
    let rows = compare(&["idle", "--connections", "500", "--duration", "100ms"]);
    assert_costs(&rows[1..], &ECHO, 0);
}

#[test]
fn all_close_and_tidewheel_notices_silence() {
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
    assert!(silent(&rows[1]).starts_with("all gone after "), "{rows:?}");
    assert!(
        silent(&rows[2]).starts_with("still held after "),
        "{rows:?}"
    );
}

#[test]
fn all_fan_out() {
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
