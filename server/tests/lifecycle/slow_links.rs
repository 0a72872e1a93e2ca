//! Clients that read slowly.

use std::{
    net::Shutdown,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use rustix::process::Signal;

use crate::{
    measurements::{assert_bytes, assert_gone, assert_within, report, time},
    network::{Network, with_network},
    slow_reader::{SlowReader, TICK},
    support::{
        client::{BINARY, Client, End, FIN, Received, binary, close},
        ms,
        process::Server,
        socket_table, wait,
    },
};

/// P, T and C are one second each.
const FLAGS: &str = "--ping-interval 1s --ping-timeout 1s --close-timeout 1s";

/// Opens a client of `tidewheel serve` that subscribes to `topic`, without an echo of its own messages.
fn subscribe(network: &Network, server: &Server, topic: &str) -> Client {
    network.clients(|| Client::open_path(server, &format!("/{topic}?echo=false")))
}

/// Publishes numbered messages of 16 KiB, 16 a second, until `end` is set.
fn publish(mut publisher: Client, end: &AtomicBool) {
    for number in 0_u64.. {
        if end.load(Ordering::Relaxed) {
            break;
        }
        let mut payload = vec![b'p'; 16 << 10];
        payload[..8].copy_from_slice(&number.to_be_bytes());
        publisher.send(&binary(&payload));
        wait::pause(ms(60));
    }
    let _ = publisher.stream.shutdown(Shutdown::Both);
}

#[test]
fn r21_a_slow_subscriber_is_not_closed_under_any_policy_except_close() {
    const POLICIES: [&str; 3] = ["drop-oldest", "drop-newest", "conflate"];
    with_network(|network| {
        let policies = POLICIES.map(|policy| format!("{policy}={policy}"));
        let policies = policies.join(",");
        let deadlines = "--ping-interval 3s --ping-timeout 3s";
        let mut command = network.serve(&format!("{deadlines} --topic-policy {policies}"));
        let server = Server::spawn(&mut command);
        let end = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let readers = POLICIES.map(|topic| {
                let publisher = subscribe(network, &server, topic);
                let reader = SlowReader::new(subscribe(network, &server, topic), 6400);
                scope.spawn(|| publish(publisher, &end));
                scope.spawn(move || {
                    let mut reader = reader;
                    let mut last = None;
                    for _ in 0..120 {
                        for message in reader.read() {
                            assert_eq!(message.first, FIN | BINARY);
                            assert!(message.payload[8..].iter().all(|it| *it == b'p'));
                            let number: [u8; 8] = message.payload[..8].try_into().expect("8 bytes");
                            let number = u64::from_be_bytes(number);
                            assert!(last < Some(number), "out of order: {number} after {last:?}");
                            last = Some(number);
                        }
                    }
                    (topic, last, reader.pongs())
                })
            });
            let ends = readers.map(|reader| reader.join());
            end.store(true, Ordering::Relaxed);
            for read in ends {
                let (topic, last, pongs) = read.expect("the reader is not closed");
                report(
                    "R21",
                    &format!(
                        "{topic}: 12 s at 64 kB/s of 270: last message {last:?}, {pongs} Pongs"
                    ),
                );
                assert!(last.is_some());
            }
        });
        assert_eq!(server.closes("ping_timeout"), 0);
    });
}

#[test]
fn r21_a_large_message_over_a_slow_link_arrives_complete() {
    with_network(|network| {
        let server = network.start(FLAGS);
        let mut client = network.clients(|| Client::open(&server));
        let payload: Vec<u8> = (0..1 << 20).map(|at: u32| (at % 251) as u8).collect();
        client.send(&binary(&payload));
        let start = wait::now();
        let mut reader = SlowReader::new(client, 16 << 10);
        let message = loop {
            if let Some(message) = reader.read().pop() {
                break message;
            }
        };
        report(
            "R21",
            &format!(
                "1 MiB at 160 kB/s: complete after {}",
                time(start.elapsed())
            ),
        );
        assert!(message == Received::new(FIN | BINARY, &payload));
        assert!(start.elapsed() > ms(4000), "not longer than P + T");
        // The client answers the Ping behind the message, and stays connected.
        reader.client.send(&binary(b"hello"));
        let answer = loop {
            if let Some(message) = reader.read().pop() {
                break message;
            }
        };
        assert_eq!(answer, Received::new(FIN | BINARY, b"hello"));
        assert_eq!(server.closes("ping_timeout"), 0);
    });
}

/// Acknowledgements arrive at the time of a Ping or just before.
#[test]
fn r21_clients_that_read_about_once_in_a_ping_interval_are_not_closed() {
    const INTERVALS_MS: [u64; 5] = [990, 1015, 1030, 1060, 1100];
    with_network(|network| {
        let sizes = "--max-message-size 8MiB --max-send-queue 64MiB";
        let server = network.start(&format!("{FLAGS} --shards 1 {sizes}"));
        let open = |_| network.clients(|| Client::open_with_small_buffer(&server));
        let clients: Vec<Client> = (0..2 * INTERVALS_MS.len()).map(open).collect();
        std::thread::scope(|scope| {
            for (mut client, interval) in clients.into_iter().zip(INTERVALS_MS.iter().cycle()) {
                scope.spawn(move || {
                    client.send(&binary(&[1; 2 << 20]));
                    let mut reader = SlowReader::new(client, 60_000);
                    for _ in 0..12 {
                        assert_eq!(reader.read(), [], "the message is complete too early");
                        wait::pause(ms(*interval) - TICK);
                    }
                });
            }
        });
        assert_eq!(server.closes("ping_timeout"), 0);
    });
}

#[test]
fn r05_a_client_whose_kernel_drops_the_received_bytes_is_closed() {
    with_network(|network| {
        let mut command = network.serve(&format!("{FLAGS} --slow-consumer drop-oldest"));
        let server = Server::spawn(&mut command);
        let hung = subscribe(network, &server, "a");
        // Smaller than the window: the kernel drops bytes within the window, and repeats its last acknowledgement.
        socket2::SockRef::from(&hung.stream)
            .set_recv_buffer_size(4096)
            .expect("SO_RCVBUF can be set");
        let mut publisher = subscribe(network, &server, "a");
        let end = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !end.load(Ordering::Relaxed) {
                    publisher.send(&binary(&[7; 3000]));
                    wait::pause(ms(50));
                }
            });
            let unread =
                || network.clients(|| socket_table::socket(hung.port(), server.port()).unread);
            let (mut received, mut since) = (0, wait::now());
            wait::until(ms(20_000), "the client is closed", || {
                if unread() > received {
                    (received, since) = (unread(), wait::now());
                }
                server.closes("ping_timeout") == 1
            });
            let took = since.elapsed();
            end.store(true, Ordering::Relaxed);
            let what = "a client whose kernel drops all bytes: closed after";
            assert_within("R5", what, took, ms(2300));
        });
    });
}

/// Size in bytes of an echo that fits into the sockets' buffers, so that the server also answers the Close behind it.
const BUFFERED_BYTES: usize = 150_000;

#[test]
fn r23_answers_before_a_close_are_delivered_even_if_that_takes_longer_than_the_close_timeout() {
    with_network(|network| {
        let sizes = "--max-message-size 8MiB --max-send-queue 8MiB";
        let server = network.start(&format!("--close-timeout 2s {sizes}"));
        let small_buffer = |size| {
            (
                network.clients(|| Client::open_with_small_buffer(&server)),
                size,
            )
        };
        // A fixed buffer: the kernel would enlarge the default one, up to the whole answer if the client is late.
        // The client then ends its reading later than the close timeout after it has acknowledged everything.
        let large_buffer = |size| {
            let client = network.clients(|| Client::open(&server));
            let set = socket2::SockRef::from(&client.stream).set_recv_buffer_size(64 << 10);
            set.expect("SO_RCVBUF can be set");
            (client, size)
        };
        let three = || {
            let small = [small_buffer(BUFFERED_BYTES), small_buffer(40_000)];
            small.into_iter().chain([large_buffer(2 << 20)])
        };
        let clients = three().chain(three());
        std::thread::scope(|scope| {
            for (index, (mut client, size)) in clients.enumerate() {
                let finishes = index >= 3;
                scope.spawn(move || {
                    let payload = (0..size).map(|at: usize| (at % 251) as u8);
                    let payload: Vec<u8> = payload.collect();
                    client.send(&[binary(&payload), close(1000, "")].concat());
                    if finishes {
                        client.finish();
                    }
                    let start = wait::now();
                    let mut reader = SlowReader::new(client, size / 40);
                    let mut frames = Vec::new();
                    while frames.len() < 2 {
                        frames.extend(reader.read());
                    }
                    assert!(frames[0] == Received::new(FIN | BINARY, &payload));
                    assert_eq!(frames[1].close_code(), 1000);
                    assert_eq!(reader.client.end(), End::Fin);
                    assert!(
                        start.elapsed() > ms(3000),
                        "not longer than the close timeout"
                    );
                    let took = time(start.elapsed());
                    let fin = if finishes { " and FIN" } else { "" };
                    let what =
                        format!("{size} bytes and Close{fin}: answered completely after {took}");
                    report("R23", &what);
                });
            }
        });
        assert_eq!(server.metric("tidewheel_deadline_resets_total", ""), 0);
    });
}

#[test]
fn r21_a_client_that_sends_fin_while_it_receives_gets_the_whole_message() {
    with_network(|network| {
        let sizes = "--max-message-size 8MiB --max-send-queue 8MiB";
        let server = network.start(&format!("--close-timeout 2s {sizes}"));
        let mut client = network.clients(|| Client::open(&server));
        let payload: Vec<u8> = (0..3 << 20).map(|at: u32| (at % 251) as u8).collect();
        client.send(&binary(&payload));
        let start = wait::now();
        let mut reader = SlowReader::new(client, 100_000);
        for _ in 0..3 {
            assert_eq!(reader.read(), [], "the message is complete too early");
        }
        // Most of the echo is still in the server's queue.
        reader.client.finish();
        let message = loop {
            if let Some(message) = reader.read().pop() {
                break message;
            }
        };
        assert!(message == Received::new(FIN | BINARY, &payload));
        assert_eq!(reader.client.end(), End::Fin);
        let took = start.elapsed();
        assert!(took > ms(3000), "not longer than the close timeout");
        report(
            "R21",
            &format!("3 MiB, and FIN meanwhile: complete after {}", time(took)),
        );
        assert_eq!(server.metric("tidewheel_deadline_resets_total", ""), 0);
    });
}

#[test]
fn r03_a_closing_client_that_stops_reading_is_reset_at_the_close_timeout() {
    with_network(|network| {
        let server = network.start("--close-timeout 1s");
        let mut client = network.clients(|| Client::open_with_small_buffer(&server));
        client.send(&[binary(&[1; BUFFERED_BYTES]), close(1000, "")].concat());
        let mut reader = SlowReader::new(client, 5000);
        for _ in 0..15 {
            assert_eq!(reader.read(), [], "the message is complete too early");
        }
        let start = wait::now();
        server.until_empty_since(start, ms(1300) + ms(2000));
        let took = start.elapsed();
        assert_within(
            "R3",
            "a client that stops reading: gone after",
            took,
            ms(1300),
        );
        assert_eq!(server.metric("tidewheel_deadline_resets_total", ""), 1);
    });
}

#[test]
fn r16_a_drain_ends_in_time_although_closing_clients_are_still_reading() {
    with_network(|network| {
        let server = network.start("--close-timeout 1s");
        let clients = [false, true].map(|finishes| {
            let mut client = network.clients(|| Client::open_with_small_buffer(&server));
            client.send(&[binary(&[1; BUFFERED_BYTES]), close(1000, "")].concat());
            if finishes {
                client.finish();
            }
            SlowReader::new(client, 5000)
        });
        let (reading, port) = (AtomicUsize::new(0), server.port());
        std::thread::scope(|scope| {
            for mut reader in clients {
                let reading = &reading;
                scope.spawn(move || {
                    for _ in 0..15 {
                        assert_eq!(reader.read(), [], "the message is complete too early");
                    }
                    reading.fetch_add(1, Ordering::Relaxed);
                    // Ends when the server resets the connection.
                    while reader.discard() {}
                });
            }
            wait::until(
                ms(10_000),
                "both clients read for longer than the close timeout",
                || reading.load(Ordering::Relaxed) == 2,
            );
            let start = wait::now();
            server.signal(Signal::TERM);
            let (status, log) = server.wait(ms(5000));
            assert_eq!(status.code(), Some(0), "{log}");
            assert_within(
                "R16",
                "a drain with two slow readers:",
                start.elapsed(),
                ms(1800),
            );
            socket_table::assert_no_orphans_soon(port);
        });
    });
}

#[test]
fn r10_a_client_that_sends_fin_and_does_not_read_leaves_no_orphan() {
    with_network(|network| {
        let server = network.start("--close-timeout 1s");
        let mut clients: Vec<Client> = network.clients(|| {
            (0..20)
                .map(|_| Client::open_with_small_buffer(&server))
                .collect()
        });
        let start = wait::now();
        for client in &mut clients {
            // The server's kernel takes the whole echo; the client reads nothing.
            client.send(&[binary(&[1; 40_000]), close(1000, "")].concat());
            client.finish();
        }
        let what = "20 that have sent FIN and do not read";
        assert_gone("R10", what, &server, start, ms(1300));
    });
}

#[test]
fn r05_a_fin_behind_the_close_1011_does_not_extend_the_close_timeout() {
    with_network(|network| {
        let server = network.start("--ping-interval 1s --ping-timeout 1s --close-timeout 2s");
        let mut client = network.clients(|| Client::open_with_small_buffer(&server));
        client.send_until_blocked(&binary(&[1; 30_000]));
        let start = wait::now();
        wait::until(ms(5000), "the client is closed", || {
            server.closes("ping_timeout") == 1
        });
        let mut reader = SlowReader::new(client, 1000);
        wait::pause(ms(1000));
        reader.client.finish();
        let end = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !end.load(Ordering::Relaxed) {
                    reader.discard();
                }
            });
            server.until_empty_since(start, ms(4300) + ms(4000));
            end.store(true, Ordering::Relaxed);
        });
        let what = "FIN behind a Close 1011: gone after";
        assert_within("R5", what, start.elapsed(), ms(4300));
        socket_table::assert_no_orphans_soon(server.port());
    });
}

#[test]
fn r22_at_most_128_kib_are_unsent_in_the_kernel() {
    with_network(|network| {
        let mut command = network.serve("--slow-consumer drop-oldest --ping-interval off");
        let server = Server::spawn(&mut command);
        let reader = subscribe(network, &server, "a");
        let mut publisher = subscribe(network, &server, "a");
        let message = binary(&[7; 60_000]);
        // More than the reader's socket and queue hold.
        let mut unsent_max = 0;
        for _ in 0..200 {
            publisher.send(&message);
            let row = socket_table::socket(server.port(), reader.port());
            unsent_max = unsent_max.max(row.unsent);
        }
        wait::until(ms(5000), "messages to the reader are dropped", || {
            server.metric("tidewheel_drops_total", "drop_oldest") > 0
        });
        let row = socket_table::socket(server.port(), reader.port());
        // The kernel fills a segment of 64 KiB that it has begun.
        assert_bytes(
            "R22",
            "unsent in the kernel, of a client that does not read",
            row.unsent,
            (128 << 10) + (64 << 10),
        );
        assert!(
            row.unsent > 0,
            "the window is not closed; at most {unsent_max} bytes were unsent"
        );
    });
}

#[test]
fn r05_a_client_with_a_closed_window_is_closed_although_its_kernel_answers() {
    with_network(|network| {
        let server = network.start(FLAGS);
        let mut client = network.clients(|| Client::open_with_small_buffer(&server));
        client.send_until_blocked(&binary(&[1; 30_000]));
        let start = wait::now();
        let port = (server.port(), client.port());
        assert!(
            socket_table::socket(port.0, port.1).unsent > 0,
            "the window is not closed"
        );
        server.until_empty_since(start, ms(3300) + ms(2000));
        let took = start.elapsed();
        assert_within("R5", "closed window: gone after", took, ms(3300));
        assert_eq!(server.closes("ping_timeout"), 1);
    });
}
