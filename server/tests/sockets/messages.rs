//! Valid messages and control frames.

use crate::support::{
    client::{BINARY, CONTINUATION, Client, FIN, PING, PONG, TEXT, binary, frame, text},
    ms,
    process::Server,
    wait,
};

/// Returns bytes that depend on their position.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32)
        .map(|at| (at.wrapping_mul(0x9E37_79B1) >> 24) as u8)
        .collect()
}

#[test]
fn messages_of_every_length_class_are_echoed() {
    let server = Server::start("");
    let mut client = Client::open(&server);
    let buffer = 16 * 1024;
    for length in [
        0,
        1,
        2,
        125,
        126,
        127,
        1000,
        4095,
        4096,
        4097,
        buffer - 15,
        buffer - 14,
        buffer - 8,
        buffer - 4,
        buffer,
        buffer + 1,
        // With a header of 8 bytes, as long as a receive buffer, and one byte longer.
        buffer + 64 - 8,
        buffer + 64 - 7,
        65535,
        65536,
        65537,
        200_000,
        (1 << 20) - 1,
        1 << 20,
    ] {
        let payload = pattern(length);
        client.send(&binary(&payload));
        client.expect(FIN | BINARY, &payload);
    }
    for message in ["", "Hello", "\u{FEFF}γειά, 🌊!\0", &"ß".repeat(500_000)] {
        client.send(&text(message));
        client.expect(FIN | TEXT, message);
    }
}

#[test]
fn a_message_of_1_mib_is_echoed_and_one_more_byte_gets_1009() {
    let server = Server::start("");
    let mut client = Client::open(&server);
    let payload = pattern(1 << 20);
    client.send(&binary(&payload));
    client.expect(FIN | BINARY, &payload);
    client.send(&binary(&pattern((1 << 20) + 1)));
    assert_eq!(client.frame().close_code(), 1009);
}

#[test]
fn max_message_size_is_the_limit_of_a_message() {
    let server = Server::start("--max-message-size 1000");
    let mut client = Client::open(&server);
    client.send(&binary(&pattern(1000)));
    client.expect(FIN | BINARY, pattern(1000));
    client.send(&binary(&pattern(1001)));
    assert_eq!(client.frame().close_code(), 1009);
}

#[test]
fn fragments_are_echoed_as_one_message() {
    let server = Server::start("");
    let mut client = Client::open(&server);
    let payload = pattern(100_000);
    for size in [1, 7, 1000, 30_000, 99_999] {
        let sent = if size == 1 { &payload[..500] } else { &payload };
        let chunks: Vec<&[u8]> = sent.chunks(size).collect();
        for (at, chunk) in chunks.iter().enumerate() {
            let opcode = if at == 0 { BINARY } else { CONTINUATION };
            let fin = if at + 1 == chunks.len() { FIN } else { 0 };
            client.send(&frame(fin | opcode, chunk));
        }
        client.expect(FIN | BINARY, sent);
    }
    // Fragments may split a character, and may be empty.
    let euro = "\u{20AC}".as_bytes();
    client.send(&frame(TEXT, &euro[..1]));
    client.send(&frame(CONTINUATION, b""));
    client.send(&frame(CONTINUATION, &euro[1..]));
    client.send(&frame(FIN | CONTINUATION, b""));
    client.expect(FIN | TEXT, euro);
}

#[test]
fn many_messages_in_one_segment_are_echoed_in_order() {
    let server = Server::start("");
    let mut client = Client::open(&server);
    let messages: Vec<String> = (0..3000).map(|at| format!("no. {at}")).collect();
    let bytes: Vec<u8> = messages.iter().flat_map(|it| text(it)).collect();
    client.send(&bytes);
    for message in &messages {
        client.expect(FIN | TEXT, message);
    }
}

#[test]
fn small_and_large_messages_keep_their_order() {
    let server = Server::start("");
    let mut client = Client::open(&server);
    // Lengths above and below the limit from which the server sends out of the receive buffer.
    let lengths = [10, 5000, 20, 9000, 4096, 1, 60_000, 0, 4095];
    let messages: Vec<Vec<u8>> = lengths
        .iter()
        .cycle()
        .take(90)
        .map(|&it| pattern(it))
        .collect();
    let mut writer = Client {
        stream: client.stream.try_clone().expect("a descriptor is free"),
    };
    let sent = messages.clone();
    let write = std::thread::spawn(move || {
        for message in &sent {
            writer.send(&binary(message));
        }
    });
    for message in &messages {
        client.expect(FIN | BINARY, message);
    }
    write.join().expect("all messages are written");
}

#[test]
fn r17_pings_are_answered_in_order_with_the_same_payload() {
    let server = Server::start("");
    let mut client = Client::open(&server);
    let payloads: Vec<Vec<u8>> = (0..=125).map(pattern).collect();
    let bytes: Vec<u8> = payloads.iter().flat_map(|it| frame(PING, it)).collect();
    client.send(&bytes);
    for payload in &payloads {
        client.expect(PONG, payload);
    }
}

#[test]
fn r17_pings_between_fragments_are_answered_before_the_message() {
    let server = Server::start("");
    let mut client = Client::open(&server);
    client.send(&frame(TEXT, b"one, "));
    client.send(&frame(PING, b"first"));
    client.expect(PONG, b"first");
    client.send(&frame(CONTINUATION, b"two, "));
    client.send(&frame(PING, b"second"));
    client.send(&frame(PING, b"third"));
    client.send(&frame(FIN | CONTINUATION, b"three"));
    client.expect(PONG, b"second");
    client.expect(PONG, b"third");
    client.expect(FIN | TEXT, b"one, two, three");
}

#[test]
fn r17_an_unsolicited_pong_is_ignored() {
    let server = Server::start("");
    let mut client = Client::open(&server);
    client.send(&frame(PONG, b""));
    client.send(&frame(PONG, &[0xFF; 125]));
    client.send(&text("next"));
    client.expect(FIN | TEXT, b"next");
}

#[test]
fn connections_on_all_shards_are_served_at_the_same_time() {
    let server = Server::start("--shards 3");
    let mut clients = Client::open_many(&server, 60);
    for (at, client) in clients.iter_mut().enumerate() {
        client.send(&text(&format!("client {at}")));
    }
    for (at, client) in clients.iter_mut().enumerate() {
        client.expect(FIN | TEXT, format!("client {at}"));
    }
    wait::until(ms(2000), "the sum of the shards' connections is 60", || {
        server.connections() == 60
    });
}

#[test]
fn one_slot_serves_many_clients_one_after_the_other() {
    let server = Server::start("--max-connections 1 --shards 1");
    for at in 0..20 {
        let mut client = Client::open(&server);
        client.send(&text(&format!("message {at}")));
        client.expect(FIN | TEXT, format!("message {at}"));
        drop(client);
        server.until_connections(0);
    }
    assert_eq!(server.metric("tidewheel_rejections_total", ""), 0);
}
