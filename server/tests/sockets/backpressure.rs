//! Clients that send and do not read.

use std::io::Write as _;

use crate::support::{
    client::{BINARY, Client, FIN, PING, PONG, binary, frame, text},
    deaf::{ALLOCATOR_NOISE, DEAF, POOLED, cost_of_the_deaf},
    ms,
    process::Server,
    socket_table, wait,
    writer::{Writer, message},
};

#[test]
fn r12_who_sends_50_mb_and_reads_nothing_costs_a_queue_and_gets_it_all_back_later() {
    const COUNT: u64 = 2600;
    let server = Server::start(DEAF);
    let mut other = Client::open(&server);
    let total: usize = (0..COUNT).map(|at| message(at).len()).sum();
    assert!(total > 50_000_000);
    // The first such client makes the allocator's pools what they are.
    read_late(&server, COUNT / 4, || ());
    let before = server.memory("VmRSS");
    read_late(&server, COUNT, || {
        let start = wait::now();
        other.send(&text("do you notice?"));
        other.expect(0x81, "do you notice?");
        wait::assert_within(start, ms(200), "others do not notice");
    });
    let grown = server.memory("VmHWM").saturating_sub(before);
    let bound = cost_of_the_deaf() + POOLED + ALLOCATOR_NOISE;
    assert!(grown <= bound, "{grown} bytes more, {bound} may be");
    assert_eq!(server.closes("slow_consumer"), 0);
}

/// A client that sends `count` messages and reads nothing until the server reads no more, calls
/// `meanwhile`, and then reads everything.
fn read_late(server: &Server, count: u64, meanwhile: impl FnOnce()) {
    let mut client = Client::open(server);
    let stream = client.stream.try_clone().expect("a descriptor");
    let writer = Writer::start(stream, count, |at| binary(&message(at)));
    writer.until_stalled(server, &client);
    meanwhile();
    for at in 0..count {
        let frame = client.frame();
        assert_eq!(frame.first, FIN | BINARY, "message {at}: {frame:?}");
        assert!(frame.payload == message(at), "message {at} is intact");
    }
    writer.join();
    client.send(&text("all well"));
    client.expect(0x81, "all well");
}

#[test]
fn r12_twenty_who_do_not_read_cost_a_bounded_queue_each() {
    let server = Server::start(&format!("{DEAF} --ping-interval off"));
    let mut other = Client::open(&server);
    other.send(&binary(&[1; 30_000]));
    other.expect(FIN | BINARY, [1; 30_000]);
    let before = server.memory("VmRSS");
    let mut clients: Vec<Client> = (0..20).map(|_| Client::open_narrow(&server)).collect();
    for client in &mut clients {
        client.stuff(&binary(&[1; 30_000]));
    }
    let start = wait::now();
    other.send(&text("do you notice?"));
    other.expect(0x81, "do you notice?");
    wait::assert_within(start, ms(200), "others do not notice");
    let grown = server.memory("VmHWM").saturating_sub(before);
    let bound = 20 * cost_of_the_deaf() + POOLED + ALLOCATOR_NOISE;
    assert!(grown <= bound, "{grown} bytes for twenty, {bound} may be");
    assert_eq!(server.closes("slow_consumer"), 0);
}

#[test]
fn r12_a_burst_is_no_slow_consumer() {
    // A message as large as the queue, and others right behind it.
    let server = Server::start("--shards 1 --max-send-queue 1MiB");
    let mut client = Client::open(&server);
    let large = vec![0x55; 1 << 20];
    let mut bytes = binary(&large);
    (0..100).for_each(|_| bytes.extend(text("small")));
    let mut writer = Client {
        stream: client.stream.try_clone().expect("a descriptor"),
    };
    let write = std::thread::spawn(move || (0..10).for_each(|_| writer.send(&bytes)));
    for _ in 0..10 {
        client.expect(FIN | BINARY, &large);
        (0..100).for_each(|_| client.expect(0x81, "small"));
    }
    write.join().expect("it wrote everything");
}

#[test]
fn r17_pings_under_send_pressure_are_answered_in_order() {
    const COUNT: u64 = 400;
    let server = Server::start("--shards 1");
    let mut client = Client::open(&server);
    let stream = client.stream.try_clone().expect("a descriptor");
    let writer = Writer::start(stream, COUNT, |at| {
        let ping = frame(PING, &at.to_be_bytes());
        [binary(&message(at)).as_slice(), &ping].concat()
    });
    writer.until_stalled(&server, &client);
    // Pongs overtake messages, but not each other.
    let (mut messages, mut pongs) = (0, 0);
    while messages < COUNT || pongs < COUNT {
        let frame = client.frame();
        if frame.first == PONG {
            assert_eq!(frame.payload, pongs.to_be_bytes());
            pongs += 1;
        } else {
            assert!(
                frame.payload == message(messages),
                "message {messages} is intact"
            );
            messages += 1;
        }
    }
    writer.join();
}

#[test]
fn r07_a_slow_reader_that_answers_pings_is_not_cut() {
    let server = Server::start("--shards 1 --ping-interval 300ms --ping-timeout 3s");
    let mut client = Client::open_narrow(&server);
    let mut writer = client.stream.try_clone().expect("a descriptor");
    client.stuff_until_paused(&server, &binary(&[7; 60_000]));
    // Pings overtake what waits, and are read, but the answers lie unread.
    for round in 0..40_u32 {
        wait::pause(ms(100));
        writer
            .write_all(&frame(PONG, &round.to_be_bytes()))
            .expect("it is open");
    }
    assert_eq!(server.closes("ping_timeout"), 0);
    assert_eq!(server.connections(), 1);
}

#[test]
fn r09_a_ping_overtakes_what_waits() {
    let server = Server::start("--shards 1 --ping-interval 500ms --ping-timeout off");
    let mut client = Client::open_narrow(&server);
    client.stuff_until_paused(&server, &binary(&[7; 60_000]));
    wait::pause(ms(700));
    let in_kernel = socket_table::held(server.port(), client.port()).unsent;
    let mut before = 0;
    loop {
        let frame = client.frame();
        if frame.first == PING {
            break;
        }
        before += frame.payload.len() as u64;
    }
    // What the kernels had already, and the frame under way; far more than that was waiting.
    let most = in_kernel + 3 * 60_000;
    assert!(before <= most, "{before} bytes came first, {most} may");
}
