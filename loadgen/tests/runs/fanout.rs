//! Scenario fanout against a child server, and against servers that lose or change messages.

use std::io::Write;

use crate::{
    harness::{Run, run},
    misbehaving_servers::{accept_handshake, read_frame, serve},
};

const SHORT: [&str; 4] = ["--duration", "500ms", "--warm-up", "100ms"];

#[test]
fn every_subscriber_of_a_topic_gets_all_messages_in_order() {
    let arguments = ["fanout", "--connections", "60", "--topics", "6"];
    let more = ["--publishers", "15", "--rate", "300"];
    let run = run(&[&arguments[..], &more, &SHORT].concat());
    run.assert_passed();
    run.assert_all("closed", 60);
    assert_eq!(run.number("/figures/fanout.published"), 180.0);
    assert_eq!(run.number("/figures/fanout.delivered"), 1800.0);
    for latency in ["delivery", "last"] {
        let count = run.number(&format!("/latencies/{latency}/corrected/count"));
        assert_eq!(count, if latency == "last" { 150.0 } else { 1500.0 });
    }
    for figure in ["lost", "altered", "out_of_order", "duplicates"] {
        assert_eq!(run.number(&format!("/figures/{figure}")), 0.0, "{figure}");
    }
}

#[test]
fn sender_excluded_expects_no_message_for_the_publisher() {
    let arguments = ["fanout", "--connections", "10", "--sender-excluded"];
    let run = run(&[&arguments[..], &["--rate", "100"], &SHORT].concat());
    run.assert_passed();
    assert_eq!(run.number("/figures/fanout.published"), 60.0);
    assert_eq!(run.number("/figures/fanout.delivered"), 540.0);
}

#[test]
fn a_closed_loop_keeps_messages_in_flight() {
    let arguments = ["fanout", "--connections", "50", "--in-flight", "16"];
    let run = run(&[&arguments[..], &SHORT].concat());
    run.assert_passed();
    run.assert_all("closed", 50);
    let published = run.number("/figures/fanout.published");
    assert!(published > 16.0, "{published}");
    assert_eq!(run.number("/figures/fanout.delivered"), published * 50.0);
    assert!(run.number("/figures/server.cpu_seconds_per_million") > 0.0);
}

/// Runs fanout with one connection, against a server that sends the messages that `change` returns
/// instead of each message.
fn run_against(change: fn(usize, Vec<u8>) -> Vec<Vec<u8>>) -> Run {
    let address = serve(move |stream| {
        accept_handshake(stream)?;
        for number in 0.. {
            let (first, payload) = read_frame(stream)?;
            if first == 0x88 {
                let mut close = vec![0x88, 2];
                close.extend(payload);
                return stream.write_all(&close);
            }
            for payload in change(number, payload) {
                let mut frame = vec![first, u8::try_from(payload.len()).unwrap()];
                frame.extend(payload);
                stream.write_all(&frame)?;
            }
        }
        Ok(())
    });
    let url = format!("ws://{address}/{{topic}}");
    let arguments = ["fanout", "--url", &url, "--connections", "1"];
    let more = ["--rate", "100", "--timeout", "300ms", "--size", "16"];
    run(&[&arguments[..], &more, &SHORT].concat())
}

#[track_caller]
fn assert_counts(run: &Run, expected: [f64; 4]) {
    let counts = ["lost", "altered", "out_of_order", "duplicates"];
    let counts = counts.map(|name| run.number(&format!("/figures/{name}")));
    assert_eq!(counts, expected);
    // Status 2 is a property of this machine, not of the server.
    match expected.iter().any(|&count| count > 0.0) {
        true => assert_ne!(run.status, 0, "{:#}", run.document),
        false => assert_ne!(run.status, 1, "{:#}", run.document),
    }
}

#[test]
fn a_correct_server_has_no_failures() {
    assert_counts(&run_against(|_, payload| vec![payload]), [0.0; 4]);
}

#[test]
fn missing_messages_are_lost() {
    let run = run_against(|number, payload| match number {
        // The last message too, which no later one reveals as missing.
        7 | 8 | 59 => vec![],
        _ => vec![payload],
    });
    assert_counts(&run, [3.0, 0.0, 0.0, 0.0]);
}

#[test]
fn likely_causes_of_lost_and_altered_messages_are_reported() {
    for (run, advice) in [
        (run_against(|_, _| vec![]), "add --sender-excluded"),
        (
            run_against(|_, _| vec![vec![0; 3]]),
            "is the path of --url right?",
        ),
    ] {
        let reasons = run.at("/reasons").to_string();
        assert!(reasons.contains(advice), "{advice}: {reasons}");
    }
}

#[test]
fn a_message_that_arrives_twice_is_a_duplicate() {
    let run = run_against(|number, payload| match number {
        7 => vec![payload.clone(), payload],
        _ => vec![payload],
    });
    assert_counts(&run, [0.0, 0.0, 0.0, 1.0]);
}

#[test]
fn a_change_of_any_byte_or_of_the_length_is_found() {
    let run = run_against(|number, mut payload| {
        match number {
            7 => payload[15] ^= 1,
            8 => payload.push(0),
            9 => payload[5] ^= 1,
            _ => {}
        }
        vec![payload]
    });
    assert_counts(&run, [3.0, 3.0, 0.0, 0.0]);
}

#[test]
fn an_overtaken_message_is_out_of_order() {
    use std::cell::RefCell;
    thread_local! {
        static HELD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let run = run_against(|number, payload| match number {
        7 => {
            HELD.set(payload);
            vec![]
        }
        9 => vec![payload, HELD.take()],
        _ => vec![payload],
    });
    assert_counts(&run, [0.0, 0.0, 1.0, 0.0]);
}
