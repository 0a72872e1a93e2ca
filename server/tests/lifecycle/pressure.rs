//! Clients that do not read, and control frames among all the rest.

use std::time::Duration;

use crate::{
    figures::{assert_bytes, assert_within, tell, time},
    network::with_network,
    prober::Prober,
    support::{
        client::{
            BINARY, CONTINUATION, Client, FIN, PING, PONG, Received, TEXT, binary, frame, text,
        },
        deaf::{ALLOCATOR_NOISE, DEAF, cost_of_the_deaf},
        ms, wait,
        writer::{Writer, message},
    },
};

/// How long an echo may take on a machine that has other work as well.
const UNNOTICED: Duration = ms(100);

#[test]
fn r12_clients_that_do_not_read_cost_a_queue_and_others_do_not_notice() {
    const COUNT: u64 = 8;
    with_network(|network| {
        let server = network.start(&format!("{DEAF} --ping-interval off"));
        let message = binary(&[1; 30_000]);
        let mut other = network.clients(|| Client::open(&server));
        other.send(&message);
        other.expect(FIN | BINARY, [1; 30_000]);
        let mut deaf: Vec<Client> = network.clients(|| {
            let open = |_| Client::open_narrow(&server);
            (0..COUNT).map(open).collect()
        });
        let prober = Prober::start(other);
        prober.wait_for(200);
        let alone = prober.worst();
        let before = server.memory("VmRSS");
        deaf.iter_mut().for_each(|client| client.stuff(&message));
        let worst = prober.worst();
        prober.stop();
        let each = server.memory("VmHWM").saturating_sub(before) / COUNT;
        let what = "8 send all they can and read nothing: each costs";
        let bound = cost_of_the_deaf() + ALLOCATOR_NOISE / COUNT;
        assert_bytes("R12", what, each, bound);
        let what = "meanwhile another's slowest echo";
        let what = format!("{what} ({} before):", time(alone));
        assert_within("R12", &what, worst, UNNOTICED);
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
        tell(
            "R17",
            &format!("126 pings: 126 pongs, same payloads, in order, after {took}"),
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
        tell(
            "R17",
            "3 pings between fragments: 3 pongs, then the message; a pong: ignored",
        );
        let stream = client.stream.try_clone().expect("a descriptor");
        let writer = Writer::start(stream, COUNT, |at| {
            [binary(&message(at)), frame(PING, &at.to_be_bytes())].concat()
        });
        writer.until_stalled(&server, &client);
        // Pongs overtake messages, but not each other.
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
                    assert!(frame.payload == message(messages), "{messages} is intact");
                    messages += 1;
                }
            }
        }
        writer.join();
        tell("R17", "400 pings under send pressure: 400 pongs, in order");
        client.send(&text("all well"));
        client.expect(FIN | TEXT, "all well");
    });
}
