//! What is told of an end.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    crowd,
    figures::{assert_within, tell},
    network::{Network, with_network},
    support::{
        SLACK,
        client::{Client, binary, close, text},
        ms, wait,
    },
};

const TOLD_WITHIN: Duration = ms(50);

/// The log has a line for each end.
const LOG: [(&str, &str); 1] = [("TIDEWHEEL_LOG", "info,tidewheel::close=debug")];

/// One way to end, and what is told of it.
struct Ending {
    flags: &'static str,
    /// Gives the time of the event, and what is left of the client.
    depart: fn(Client) -> (Instant, Option<Client>),
    initiator: &'static str,
    cause: &'static str,
    received: Option<u16>,
    sent: Option<u16>,
}

/// All causes that a server knows which echoes, but for `shutdown`: `local_close`, `close_timeout`
/// and `slow_consumer` need an application that closes, or sends more than it was sent.
const ENDINGS: [Ending; 8] = [
    Ending {
        flags: "",
        depart: |client| send(client, &close(4000, "so long")),
        initiator: "peer",
        cause: "peer_close",
        received: Some(4000),
        sent: Some(4000),
    },
    Ending {
        flags: "",
        depart: |client| {
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
        depart: |mut client| {
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
        depart: |client| send(client, b"\x81\x05hello"),
        initiator: "local",
        cause: "protocol_error",
        received: None,
        sent: Some(1002),
    },
    Ending {
        flags: "--max-message-size 1KiB",
        depart: |client| send(client, &binary(&[0; 1025])),
        initiator: "local",
        cause: "too_big",
        received: None,
        sent: Some(1009),
    },
    Ending {
        flags: "--ping-interval 200ms --ping-timeout 200ms",
        // The server fails the connection, and waits for no answer.
        depart: |mut client| {
            assert_eq!(client.frame_but_ping().close_code(), 1011);
            (wait::now(), Some(client))
        },
        initiator: "local",
        cause: "ping_timeout",
        received: None,
        sent: Some(1011),
    },
    Ending {
        flags: "--idle-timeout 200ms",
        depart: answer_going_away,
        initiator: "local",
        cause: "idle_timeout",
        received: Some(1001),
        sent: Some(1001),
    },
    Ending {
        flags: "--max-lifetime 200ms",
        depart: answer_going_away,
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

/// The server closes in order: the end is known when the client has answered.
fn answer_going_away(mut client: Client) -> (Instant, Option<Client>) {
    assert_eq!(client.frame_but_ping().close_code(), 1001);
    send(client, &close(1001, ""))
}

#[test]
fn r18_each_end_is_told_once_with_who_and_why_and_the_codes() {
    with_network(|network| {
        for ending in &ENDINGS {
            told(network, ending);
        }
    });
}

/// Ends a connection so, then another by shutdown; looks at the counter and the log.
fn told(network: &Network, ending: &Ending) {
    let flags = format!("--log-format json --close-timeout 1s {}", ending.flags);
    let server = network.start_with(&flags, &LOG);
    let client = network.clients(|| Client::open(&server));
    assert_eq!(server.closes(ending.cause), 0);
    let (event, left) = (ending.depart)(client);
    wait::until(ms(5000), "it is counted", || {
        server.closes(ending.cause) == 1
    });
    let took = event.elapsed();
    assert_eq!(server.metric("tidewheel_closes_total", ""), 1);
    drop(left);
    server.signal(Signal::TERM);
    let (status, log) = server.wait(ms(10_000));
    assert!(status.success(), "{log}");
    let ends = ends(&log);
    let [end] = ends.as_slice() else {
        panic!("one line for one end, in:\n{log}");
    };
    assert_eq!(end["initiator"], ending.initiator, "{end}");
    assert_eq!(end["cause"], ending.cause, "{end}");
    assert_eq!(end["received"], Value::from(ending.received), "{end}");
    assert_eq!(end["sent"], Value::from(ending.sent), "{end}");
    for (code, reason) in [("received", "received_reason"), ("sent", "sent_reason")] {
        assert_eq!(end[code].is_null(), end[reason].is_null(), "{end}");
    }
    if ending.cause == "peer_close" {
        assert_eq!(end["received_reason"], "so long");
    }
    let what = format!("{}, {}: told after", ending.cause, ending.initiator);
    assert_within("R18", &what, took, TOLD_WITHIN);
}

/// The fields of each line about an end.
fn ends(log: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).expect("a line is an object");
        (line["target"] == "tidewheel::close").then(|| line["fields"].take())
    });
    lines.flatten().collect()
}

#[test]
fn r18_a_shutdown_is_told_for_each() {
    with_network(|network| {
        let server = network.start_with("--log-format json --close-timeout 1s", &LOG);
        let mut clients = crowd::open(network, &server, 100);
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
        let what = "shutdown of 100, 50 of them mute: lines in the log";
        let count = ends.len();
        tell(
            "R18",
            &format!("{what}: {count} (must be 100), {answered} with the answer (50)"),
        );
        assert!(all_by, "{ends:?}");
        assert_eq!((count, answered), (100, 50));
    });
}

#[test]
fn r18_a_ping_timeout_is_told_without_the_network() {
    const P_AND_T: Duration = ms(1000);
    with_network(|network| {
        let server =
            network.start("--ping-interval 500ms --ping-timeout 500ms --close-timeout 10s");
        let mut client = network.clients(|| Client::open(&server));
        client.send(&text("last words"));
        client.expect(0x81, "last words");
        let cut = network.cut();
        wait::until(ms(10_000), "it is counted", || {
            server.closes("ping_timeout") == 1
        });
        let what = "black hole: ping_timeout told, while C goes on, after";
        assert_within("R18", what, cut.elapsed(), P_AND_T + SLACK);
        assert_eq!(server.connections(), 1);
    });
}
