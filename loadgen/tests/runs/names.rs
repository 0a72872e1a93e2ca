//! The names that are checked before a run are exactly those of its report.

use std::{collections::BTreeSet, net::TcpListener};

use serde_json::Value;

use crate::harness::{loadgen, run, text};

/// Runs in each mode of each scenario. URL is replaced by that of a server that this test starts.
const RUNS: [&str; 22] = [
    "close-storm --connections 20 --window 100ms",
    "close-storm --connections 20 --mode reset",
    "close-storm --connections 5 --mode silent --ping-interval 200ms --ping-timeout 200ms \
     --close-timeout 200ms",
    "close-storm --connections 20 --window 100ms --url URL",
    "close-storm --connections 20 --mode reset --url URL",
    "churn --connections 200 --rate 200 --duration 500ms --warm-up 100ms",
    "churn --connections 200 --rate 200 --duration 500ms --warm-up 100ms --timeout 1s --url URL",
    "connect --connections 20 --window 100ms",
    "connect --connections 20 --window 100ms --herd",
    "drain --connections 20 --lead 100ms --close-timeout 200ms",
    "drain --connections 20 --lead 100ms --close-timeout 200ms --mute 100%",
    "drain --connections 20 --lead 0s --close-timeout 200ms",
    "drain --connections 20 --lead 100ms --close-timeout 500ms --restart --back-within 100ms",
    "echo --connections 5 --duration 200ms --warm-up 0s",
    "echo --connections 5 --duration 200ms --warm-up 0s --rate 100",
    "echo --connections 5 --duration 200ms --warm-up 0s --url URL",
    "fanout --connections 5 --duration 200ms --warm-up 0s --rate 100",
    "fanout --connections 5 --duration 200ms --warm-up 0s --in-flight 2",
    "idle --connections 20 --duration 1s --ping-interval 250ms",
    "scale --connections 20 --hold 500ms --ping-interval 250ms --sweep 100ms --window 100ms",
    "scale --connections 20 --hold 500ms --ping-interval 250ms --sweep 100ms --window 100ms \
     --stall 400ms --broadcasts 0",
    "slow-consumers --connections 20 --duration 200ms --rate 200",
];

/// Returns the names under a heading of the error for an unknown name.
fn listed(list: &str, heading: &str) -> BTreeSet<String> {
    let below = list.split_once(&format!("\n{heading}:\n"));
    let lines = below.map_or("", |(_, below)| below).lines();
    let lines: Vec<_> = lines.take_while(|line| line.starts_with("  ")).collect();
    let names = lines.join(" ");
    let names = names.split(',').map(|name| name.trim().to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

fn keys<'a>(value: &'a Value, keep: impl Fn(&'a Value) -> bool) -> BTreeSet<String> {
    let fields = value.as_object().unwrap().iter();
    let kept = fields.filter(|(_, value)| keep(value));
    kept.map(|(name, _)| name.clone()).collect()
}

#[test]
fn the_names_listed_before_a_run_are_those_of_its_report() {
    // A free port.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let listen = address.to_string();
    let mut server = loadgen(&["__server", "echo", "--shards", "1", "--listen", &listen])
        .spawn()
        .unwrap();
    while std::net::TcpStream::connect(address).is_err() {
        assert!(server.try_wait().unwrap().is_none(), "the server ended");
    }
    let url = format!("ws://{address}/");
    for line in RUNS {
        let line = line.replace("URL", &url);
        let arguments: Vec<_> = line.split_whitespace().collect();
        let refused = loadgen(&[&arguments[..], &["--assert", "zz<1"]].concat()).output();
        let list = text(&refused.unwrap());
        let run = run(&arguments);
        let mut figures = keys(run.at("/figures"), |_| true);
        figures.insert("connections".to_owned());
        assert_eq!(listed(&list, "figures"), figures, "{line}");
        let latencies = keys(run.at("/latencies"), |_| true);
        assert_eq!(listed(&list, "latencies"), latencies, "{line}");
        let twice = keys(run.at("/latencies"), |it| !it["uncorrected"].is_null());
        let heading = "latencies from the send as well (LATENCY.uncorrected)";
        assert_eq!(listed(&list, heading), twice, "{line}");
    }
    server.kill().unwrap();
    server.wait().unwrap();
}
