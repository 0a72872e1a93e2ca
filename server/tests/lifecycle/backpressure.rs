//! Clients that do not read, and control frames between messages.

use std::time::Duration;

use crate::{
    measurements::{assert_bytes, assert_within, report, time},
    network::with_network,
    support::{
        client::{
            BINARY, CONTINUATION, Client, FIN, PING, PONG, Received, TEXT, binary, frame, text,
        },
        ms,
        non_reader::{ALLOCATOR_NOISE_BYTES, NON_READER_FLAGS, non_reader_cost_bytes_max},
        prober::Prober,
        wait,
        writer::{Writer, message},
    },
};

/// Bound of an echo to a client that reads.
const ECHO_MAX: Duration = ms(100);

#[test]
fn r12_a_client_that_does_not_read_costs_one_queue_and_does_not_delay_others() {
    const COUNT: u64 = 8;
    with_network(|network| {
        let server = network.start(&format!("{NON_READER_FLAGS} --ping-interval off"));
        let message = binary(&[1; 30_000]);
        let mut other = network.clients(|| Client::open(&server));
        other.send(&message);
        other.expect(FIN | BINARY, [1; 30_000]);
        let mut non_reading: Vec<Client> = network.clients(|| {
            let open = |_| Client::open_with_small_buffer(&server);
            (0..COUNT).map(open).collect()
        });
        let prober = Prober::start(other, ms(1));
        prober.wait_for(200);
        let alone = prober.take_longest();
        let before = server.memory("VmRSS");
        non_reading
            .iter_mut()
            .for_each(|client| client.send_until_blocked(&message));
        let longest = prober.take_longest();
        drop(prober);
        let each = server.memory("VmHWM").saturating_sub(before) / COUNT;
        let what = "8 clients send without reading: each costs";
        let bound = non_reader_cost_bytes_max() + ALLOCATOR_NOISE_BYTES / COUNT;
        assert_bytes("R12", what, each, bound);
        let what = "longest echo to another client";
        let what = format!("{what} ({} before):", time(alone));
        assert_within("R12", &what, longest, ECHO_MAX);
        assert_eq!(server.closes("slow_consumer"), 0);
    });
}

#[test]
fn r17_pings_are_answered_with_the_same_payload_in_order() {
    const COUNT: u64 = 400;
    with_network(|network| {
        let server = network.start("--shards 1");
        let mut client = network.clients(|| Client::open(&server));
        let payloads: Vec<Vec<u8>> = (0..=125)
            .map(|length| vec![length; length.into()])
            .collect();
        let start = wait::now();
        for payload in &payloads {
            client.send(&frame(PING, payload));
        }
        for payload in &payloads {
            client.expect(PONG, payload);
        }
        let took = time(start.elapsed());
        report(
            "R17",
            &format!("126 Pings: 126 Pongs, same payloads, in order, after {took}"),
        );
        client.send(&frame(TEXT, b"one, "));
        client.send(&frame(PING, b"first"));
        client.send(&frame(PONG, b"unsolicited"));
        client.send(&frame(CONTINUATION, b"two, "));
        client.send(&[frame(PING, b"second"), frame(PING, b"third")].concat());
        client.send(&frame(FIN | CONTINUATION, b"three"));
        for payload in [b"first".as_slice(), b"second", b"third"] {
            client.expect(PONG, payload);
        }
        client.expect(FIN | TEXT, b"one, two, three");
        report(
            "R17",
            "3 Pings between fragments: 3 Pongs, then the message; an unsolicited Pong: ignored",
        );
        let stream = client.stream.try_clone().expect("a descriptor is free");
        let writer = Writer::start(stream, COUNT, |at| {
            [binary(&message(at)), frame(PING, &at.to_be_bytes())].concat()
        });
        writer.until_stalled(&server, &client);
        // A Pong may overtake messages, but not another Pong.
        let (mut messages, mut pongs) = (0, 0);
        while messages < COUNT || pongs < COUNT {
            match client.frame() {
                Received {
                    first: PONG,
                    payload,
                } => {
                    assert_eq!(payload, pongs.to_be_bytes());
                    pongs += 1;
                }
                frame => {
                    assert!(
                        frame.payload == message(messages),
                        "message {messages} differs"
                    );
                    messages += 1;
                }
            }
        }
        writer.join();
        report(
            "R17",
            "400 Pings with a full send queue: 400 Pongs, in order",
        );
        client.send(&text("hello"));
        client.expect(FIN | TEXT, "hello");
    });
}
