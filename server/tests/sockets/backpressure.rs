//! Clients that send without reading.

use std::io::Write as _;

use crate::support::{
    client::{BINARY, Client, FIN, PING, PONG, binary, frame, text},
    ms,
    non_reader::{
        ALLOCATOR_NOISE_BYTES, NON_READER_FLAGS, POOLED_BYTES_MAX, non_reader_cost_bytes_max,
    },
    process::Server,
    socket_table, wait,
    writer::{Writer, message},
};

#[test]
fn r12_a_client_that_reads_only_after_sending_50_mb_costs_one_queue_and_gets_all_echoes() {
    const COUNT: u64 = 2600;
    let server = Server::start(NON_READER_FLAGS);
    let mut other = Client::open(&server);
    let total: usize = (0..COUNT).map(|at| message(at).len()).sum();
    assert!(total > 50_000_000);
    // The first run fills the allocator's pools.
    read_late(&server, COUNT / 4, || ());
    let before = server.memory("VmRSS");
    read_late(&server, COUNT, || {
        let start = wait::now();
        other.send(&text("hello"));
        other.expect(0x81, "hello");
        wait::assert_within(start, ms(200), "an echo to another client");
    });
    let grown = server.memory("VmHWM").saturating_sub(before);
    let bound = non_reader_cost_bytes_max() + POOLED_BYTES_MAX + ALLOCATOR_NOISE_BYTES;
    assert!(
        grown <= bound,
        "grew by {grown} bytes; the bound is {bound}"
    );
    assert_eq!(server.closes("slow_consumer"), 0);
}

/// Sends `count` messages without reading until the server stops reading, calls `meanwhile`, and then
/// reads all echoes.
fn read_late(server: &Server, count: u64, meanwhile: impl FnOnce()) {
    let mut client = Client::open(server);
    let stream = client.stream.try_clone().expect("a descriptor is free");
    let writer = Writer::start(stream, count, |at| binary(&message(at)));
    writer.until_stalled(server, &client);
    meanwhile();
    for at in 0..count {
        let frame = client.frame();
        assert_eq!(frame.first, FIN | BINARY, "message {at}: {frame:?}");
        assert!(frame.payload == message(at), "message {at} differs");
    }
    writer.join();
    client.send(&text("the end"));
    client.expect(0x81, "the end");
}

#[test]
fn r12_each_of_20_clients_that_do_not_read_costs_one_bounded_queue() {
    let server = Server::start(&format!("{NON_READER_FLAGS} --ping-interval off"));
    let mut other = Client::open(&server);
    other.send(&binary(&[1; 30_000]));
    other.expect(FIN | BINARY, [1; 30_000]);
    let before = server.memory("VmRSS");
    let mut clients: Vec<Client> = (0..20)
        .map(|_| Client::open_with_small_buffer(&server))
        .collect();
    for client in &mut clients {
        client.send_until_blocked(&binary(&[1; 30_000]));
    }
    let start = wait::now();
    other.send(&text("hello"));
    other.expect(0x81, "hello");
    wait::assert_within(start, ms(200), "an echo to another client");
    let grown = server.memory("VmHWM").saturating_sub(before);
    let bound = 20 * non_reader_cost_bytes_max() + POOLED_BYTES_MAX + ALLOCATOR_NOISE_BYTES;
    assert!(
        grown <= bound,
        "grew by {grown} bytes for 20 clients; the bound is {bound}"
    );
    assert_eq!(server.closes("slow_consumer"), 0);
}

#[test]
fn r12_a_burst_longer_than_the_queue_is_not_a_slow_consumer() {
    // A message as large as the queue, and 100 small messages behind it.
    let server = Server::start("--shards 1 --max-send-queue 1MiB");
    let mut client = Client::open(&server);
    let large = vec![0x55; 1 << 20];
    let mut bytes = binary(&large);
    (0..100).for_each(|_| bytes.extend(text("small")));
    let mut writer = Client {
        stream: client.stream.try_clone().expect("a descriptor is free"),
    };
    let write = std::thread::spawn(move || (0..10).for_each(|_| writer.send(&bytes)));
    for _ in 0..10 {
        client.expect(FIN | BINARY, &large);
        (0..100).for_each(|_| client.expect(0x81, "small"));
    }
    write.join().expect("all messages are written");
}

#[test]
fn r17_pings_are_answered_in_order_while_the_send_queue_is_full() {
    const COUNT: u64 = 400;
    let server = Server::start("--shards 1");
    let mut client = Client::open(&server);
    let stream = client.stream.try_clone().expect("a descriptor is free");
    let writer = Writer::start(stream, COUNT, |at| {
        let ping = frame(PING, &at.to_be_bytes());
        [binary(&message(at)).as_slice(), &ping].concat()
    });
    writer.until_stalled(&server, &client);
    // A Pong may overtake messages, but not another Pong.
    let (mut messages, mut pongs) = (0, 0);
    while messages < COUNT || pongs < COUNT {
        let frame = client.frame();
        if frame.first == PONG {
            assert_eq!(frame.payload, pongs.to_be_bytes());
            pongs += 1;
        } else {
            assert!(
                frame.payload == message(messages),
                "message {messages} differs"
            );
            messages += 1;
        }
    }
    writer.join();
}

#[test]
fn r07_a_client_that_does_not_read_but_sends_pongs_is_not_closed() {
    let server = Server::start("--shards 1 --ping-interval 300ms --ping-timeout 3s");
    let mut client = Client::open_with_small_buffer(&server);
    let mut writer = client.stream.try_clone().expect("a descriptor is free");
    client.send_until_paused(&server, &binary(&[7; 60_000]));
    // The server has paused receiving, so it does not read the Pongs.
    for round in 0..40_u32 {
        wait::pause(ms(100));
        writer
            .write_all(&frame(PONG, &round.to_be_bytes()))
            .expect("the connection is open");
    }
    assert_eq!(server.closes("ping_timeout"), 0);
    assert_eq!(server.connections(), 1);
}

#[test]
fn r09_a_ping_overtakes_queued_messages() {
    let server = Server::start("--shards 1 --ping-interval 500ms --ping-timeout off");
    let mut client = Client::open_with_small_buffer(&server);
    client.send_until_paused(&server, &binary(&[7; 60_000]));
    wait::pause(ms(700));
    let in_kernel = socket_table::socket(server.port(), client.port()).unsent;
    let mut before = 0;
    loop {
        let frame = client.frame();
        if frame.first == PING {
            break;
        }
        before += frame.payload.len() as u64;
    }
    // The bytes in the two kernels and the frame that was begun; the queue holds far more.
    let bound = in_kernel + 3 * 60_000;
    assert!(
        before <= bound,
        "{before} bytes came before the Ping; the bound is {bound}"
    );
}
