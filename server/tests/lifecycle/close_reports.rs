//! Reports of closed connections: log, counters, causes and codes.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    many_clients,
    measurements::{assert_within, report},
    network::{Network, with_network},
    support::{
        SLACK,
        client::{Client, binary, close, text},
        ms, wait,
    },
};

const REPORT_MAX: Duration = ms(50);

/// Environment in which the server logs each close.
const LOG: [(&str, &str); 1] = [("TIDEWHEEL_LOG", "info,tidewheel::close=debug")];

/// An end of a connection, and its expected report.
struct Ending {
    flags: &'static str,
    /// Ends the connection; returns the time of the event, and the client unless it has been reset.
    end: fn(Client) -> (Instant, Option<Client>),
    initiator: &'static str,
    cause: &'static str,
    received: Option<u16>,
    sent: Option<u16>,
}

/// All causes that an echo server can report, except `shutdown`: `local_close`, `close_timeout` and
/// `slow_consumer` need an application that closes connections or sends more than it receives.
const ENDINGS: [Ending; 8] = [
    Ending {
        flags: "",
        end: |client| send(client, &close(4000, "bye")),
        initiator: "peer",
        cause: "peer_close",
        received: Some(4000),
        sent: Some(4000),
    },
    Ending {
        flags: "",
        end: |client| {
            let event = wait::now();
            client.reset();
            (event, None)
        },
        initiator: "network",
        cause: "reset",
        received: None,
        sent: None,
    },
    Ending {
        flags: "",
        end: |mut client| {
            let event = wait::now();
            client.finish();
            (event, Some(client))
        },
        initiator: "network",
        cause: "eof_without_close",
        received: None,
        sent: None,
    },
    Ending {
        flags: "",
        end: |client| send(client, b"\x81\x05hello"),
        initiator: "local",
        cause: "protocol_error",
        received: None,
        sent: Some(1002),
    },
    Ending {
        flags: "--max-message-size 1KiB",
        end: |client| send(client, &binary(&[0; 1025])),
        initiator: "local",
        cause: "too_big",
        received: None,
        sent: Some(1009),
    },
    Ending {
        flags: "--ping-interval 200ms --ping-timeout 200ms",
        // The server fails the connection, and does not wait for an answer.
        end: |mut client| {
            assert_eq!(client.frame_except_ping().close_code(), 1011);
            (wait::now(), Some(client))
        },
        initiator: "local",
        cause: "ping_timeout",
        received: None,
        sent: Some(1011),
    },
    Ending {
        flags: "--idle-timeout 200ms",
        end: answer_going_away,
        initiator: "local",
        cause: "idle_timeout",
        received: Some(1001),
        sent: Some(1001),
    },
    Ending {
        flags: "--max-lifetime 200ms",
        end: answer_going_away,
        initiator: "local",
        cause: "lifetime",
        received: Some(1001),
        sent: Some(1001),
    },
];

fn send(mut client: Client, bytes: &[u8]) -> (Instant, Option<Client>) {
    let event = wait::now();
    client.send(bytes);
    (event, Some(client))
}

/// Answers a Close 1001. The server reports the end when it has the answer.
fn answer_going_away(mut client: Client) -> (Instant, Option<Client>) {
    assert_eq!(client.frame_except_ping().close_code(), 1001);
    send(client, &close(1001, ""))
}

#[test]
fn r18_each_end_is_reported_once_with_initiator_cause_and_codes() {
    with_network(|network| {
        for ending in &ENDINGS {
            assert_reported(network, ending);
        }
    });
}

/// Ends a connection, and asserts its counter and its line in the log.
fn assert_reported(network: &Network, ending: &Ending) {
    let flags = format!("--log-format json --close-timeout 1s {}", ending.flags);
    let server = network.start_with(&flags, &LOG);
    let client = network.clients(|| Client::open(&server));
    assert_eq!(server.closes(ending.cause), 0);
    let (event, rest) = (ending.end)(client);
    wait::until(ms(5000), "the close is counted", || {
        server.closes(ending.cause) == 1
    });
    let took = event.elapsed();
    assert_eq!(server.metric("tidewheel_closes_total", ""), 1);
    drop(rest);
    server.signal(Signal::TERM);
    let (status, log) = server.wait(ms(10_000));
    assert!(status.success(), "{log}");
    let ends = ends(&log);
    let [end] = ends.as_slice() else {
        panic!("expected one close in:\n{log}");
    };
    assert_eq!(end["initiator"], ending.initiator, "{end}");
    assert_eq!(end["cause"], ending.cause, "{end}");
    assert_eq!(end["received"], Value::from(ending.received), "{end}");
    assert_eq!(end["sent"], Value::from(ending.sent), "{end}");
    for (code, reason) in [("received", "received_reason"), ("sent", "sent_reason")] {
        assert_eq!(end[code].is_null(), end[reason].is_null(), "{end}");
    }
    if ending.cause == "peer_close" {
        assert_eq!(end["received_reason"], "bye");
    }
    let what = format!("{}, {}: counted after", ending.cause, ending.initiator);
    assert_within("R18", &what, took, REPORT_MAX);
}

/// Returns the fields of each line about a close.
fn ends(log: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).expect("a line is a JSON object");
        (line["target"] == "tidewheel::close").then(|| line["fields"].take())
    });
    lines.flatten().collect()
}

#[test]
fn r18_each_connection_of_a_shutdown_is_reported() {
    with_network(|network| {
        let server = network.start_with("--log-format json --close-timeout 1s", &LOG);
        let mut clients = many_clients::open(network, &server, 100);
        server.signal(Signal::TERM);
        for client in &mut clients {
            assert_eq!(client.frame().close_code(), 1001);
        }
        for client in &mut clients[..50] {
            client.send(&close(1001, ""));
            client.finish();
        }
        let (_, log) = server.wait(ms(10_000));
        let ends = ends(&log);
        let answered = ends.iter().filter(|end| end["received"] == 1001).count();
        let all_by = ends
            .iter()
            .all(|end| end["cause"] == "shutdown" && end["initiator"] == "local");
        let what = "shutdown of 100, 50 of them silent: lines in the log";
        let count = ends.len();
        report(
            "R18",
            &format!(
                "{what}: {count} (must be 100), {answered} with the client's code (must be 50)"
            ),
        );
        assert!(all_by, "{ends:?}");
        assert_eq!((count, answered), (100, 50));
    });
}

#[test]
fn r18_a_ping_timeout_is_reported_without_waiting_for_the_network() {
    const P_AND_T: Duration = ms(1000);
    with_network(|network| {
        let server =
            network.start("--ping-interval 500ms --ping-timeout 500ms --close-timeout 10s");
        let mut client = network.clients(|| Client::open(&server));
        client.send(&text("last words"));
        client.expect(0x81, "last words");
        let cut = network.cut();
        wait::until(ms(10_000), "the close is counted", || {
            server.closes("ping_timeout") == 1
        });
        let what = "black hole: ping_timeout counted, before C has passed, after";
        assert_within("R18", what, cut.elapsed(), P_AND_T + SLACK);
        assert_eq!(server.connections(), 1);
    });
}
