//! Compression between two sides: settings, limits, and the budget of context takeover.

mod common;

use common::{
    Observed, binary, client, connect, endpoint, masked, receive, receive_on, receive_pieces,
    server, text, with_deflate, with_takeover,
};
use proptest::prelude::*;
use tidewheel_codec::deflate::Deflate;
use tidewheel_codec::frame::Opcode;
use tidewheel_codec::{Cause, CloseCode, Config, Connection, Role, Time};

/// Returns the frame that a client sends for a message.
fn compressed(payload: &[u8]) -> Vec<u8> {
    let config = with_deflate(client());
    let mut endpoint = endpoint(&config);
    let mut connection = connect(&endpoint, Time::from_millis(0));
    let mut out = Vec::new();
    connection
        .send_binary(&mut endpoint, payload, &mut out)
        .unwrap();
    out
}

#[test]
fn the_limit_of_a_message_is_exact() {
    for limit in [5, 1000, 16 << 10, (16 << 10) + 1, 100_000] {
        let mut config = with_deflate(server());
        config.max_message_size = limit;
        let fits = vec![b'*'; limit];
        let trace = receive_pieces(&config, [compressed(&fits).as_slice()]);
        assert_eq!(trace.open_events(), [binary(&fits)]);
        let trace = receive_pieces(&config, [compressed(&vec![b'*'; limit + 1]).as_slice()]);
        assert_eq!(trace.events, []);
        assert_eq!(
            trace.sent_code(),
            Some(CloseCode::MESSAGE_TOO_BIG),
            "{limit}"
        );
        assert_eq!(trace.disconnect.unwrap().cause, Cause::TooBig);
    }
}

#[test]
fn incompressible_messages_have_the_same_limit() {
    let mut config = with_deflate(server());
    (config.max_message_size, config.max_frame_size) = (5000, 5000);
    let noise: Vec<u8> = {
        let mut endpoint = endpoint(&client());
        (0..5000 / 8)
            .flat_map(|_| endpoint.handshake_nonce()[..8].to_vec())
            .collect()
    };
    // Stored blocks of 100 bytes, as from a sender that flushes often.
    let mut payload = Vec::new();
    for piece in noise.chunks(100) {
        let len = piece.len() as u16;
        payload.push(0);
        payload.extend(len.to_le_bytes());
        payload.extend((!len).to_le_bytes());
        payload.extend(piece);
    }
    payload.push(0);
    assert!(payload.len() > config.max_message_size);
    let trace = receive_pieces(&config, [masked(0xc2, &payload).as_slice()]);
    assert_eq!(trace.open_events(), [binary(&noise)]);
    let announced = masked(0xc2, &vec![0; 7000]);
    let trace = receive_pieces(&config, [&announced[..8]]);
    assert_eq!(trace.sent_code(), Some(CloseCode::MESSAGE_TOO_BIG));
}

/// Sends `messages` from one side to the other, in pieces of `piece_size` bytes. Returns the received messages.
fn round_trip(
    sender: &Config,
    receiver: &Config,
    messages: &[Vec<u8>],
    piece_size: usize,
) -> Vec<Observed> {
    let (mut from, mut to) = (endpoint(sender), endpoint(receiver));
    let (client, server) = match sender.role {
        Role::Client => (&from, &to),
        Role::Server => (&to, &from),
    };
    let offer = client.offer_deflate().unwrap();
    let by_server = server
        .accept_deflate([offer.as_str()])
        .expect("the offer is supported");
    let response = by_server.to_string();
    let by_client = client
        .confirm_deflate([response.as_str()])
        .unwrap()
        .expect("the server accepted");
    let (agreed_from, agreed_to) = match sender.role {
        Role::Client => (by_client, by_server),
        Role::Server => (by_server, by_client),
    };
    let mut sending = Connection::new(Time::from_millis(0), 0).with_deflate(agreed_from);
    let mut receiving = Connection::new(Time::from_millis(0), 0).with_deflate(agreed_to);
    let mut out = Vec::new();
    for message in messages {
        sending.send_binary(&mut from, message, &mut out).unwrap();
    }
    let trace = receive_on(&mut receiving, &mut to, out.chunks(piece_size));
    assert_eq!(trace.disconnect, None);
    trace.events
}

fn messages() -> Vec<Vec<u8>> {
    let mut endpoint = endpoint(&client());
    let noise: Vec<u8> = (0..300).flat_map(|_| endpoint.handshake_nonce()).collect();
    vec![
        b"".to_vec(),
        b"x".to_vec(),
        b"tide ".repeat(20),
        b"tide ".repeat(20),
        noise.clone(),
        [noise.clone(), b"wheel ".repeat(20_000), noise].concat(),
        vec![0; 200_000],
    ]
}

#[test]
fn messages_survive_every_window_with_and_without_takeover() {
    let messages = messages();
    let expected: Vec<_> = messages.iter().map(|message| binary(message)).collect();
    for window_bits in 9..=15 {
        for context_takeover in [false, true] {
            let mut deflate = Deflate::default();
            deflate.threshold = 0;
            deflate.context_takeover = context_takeover;
            deflate.max_window_bits = window_bits;
            deflate.peer_max_window_bits = 24 - window_bits;
            let (mut client, mut server) = (client(), server());
            client.deflate = Some(deflate.clone());
            server.deflate = Some(deflate);
            assert_eq!(round_trip(&client, &server, &messages, 4096), expected);
            assert_eq!(round_trip(&server, &client, &messages, 1 << 20), expected);
        }
    }
}

#[test]
fn messages_survive_every_level() {
    let messages = messages();
    let expected: Vec<_> = messages.iter().map(|message| binary(message)).collect();
    for level in 0..=9 {
        let mut config = with_takeover(client());
        config.deflate.as_mut().unwrap().level = level;
        assert_eq!(
            round_trip(&config, &with_takeover(server()), &messages, 4096),
            expected
        );
    }
}

#[test]
fn takeover_makes_repeated_messages_smaller() {
    let message = b"{\"temperature\": 21.5, \"humidity\": 40, \"station\": \"north pier\"}";
    let size_of_second = |config: &Config| {
        let mut endpoint = endpoint(config);
        let mut connection = connect(&endpoint, Time::from_millis(0));
        let mut out = Vec::new();
        connection
            .send_binary(&mut endpoint, message, &mut out)
            .unwrap();
        out.clear();
        connection
            .send_binary(&mut endpoint, message, &mut out)
            .unwrap();
        out.len()
    };
    assert!(size_of_second(&with_takeover(server())) < 15);
    assert!(size_of_second(&with_deflate(server())) > 40);
}

#[test]
fn small_and_incompressible_messages_are_sent_uncompressed() {
    let mut config = server();
    config.deflate = Some(Deflate::default());
    let mut endpoint = endpoint(&config);
    let mut connection = connect(&endpoint, Time::from_millis(0));
    let mut out = Vec::new();
    connection
        .send_binary(&mut endpoint, &[0; 1023], &mut out)
        .unwrap();
    assert_eq!(out[..2], *b"\x82\x7e");
    out.clear();
    connection
        .send_binary(&mut endpoint, &[0; 1024], &mut out)
        .unwrap();
    assert_eq!(out[0], 0xc2);
    out.clear();
    let noise: Vec<u8> = (0..100).flat_map(|_| endpoint.handshake_nonce()).collect();
    connection
        .send_binary(&mut endpoint, &noise, &mut out)
        .unwrap();
    assert_eq!((out[0], out.len()), (0x82, 1604));
}

#[test]
fn dropped_connections_return_the_takeover_budget() {
    let mut config = with_takeover(server());
    config.deflate.as_mut().unwrap().takeover_budget = 1 << 20;
    let endpoint = endpoint(&config);
    let offer = || endpoint.accept_deflate(["permessage-deflate"]).unwrap();
    let mut agreements = vec![offer()];
    let cost = endpoint.takeover_bytes();
    while agreements.last().unwrap().to_string() == "permessage-deflate" {
        agreements.push(offer());
    }
    assert_eq!(
        agreements.pop().unwrap().to_string(),
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "beyond the budget, without takeover"
    );
    assert_eq!(agreements.len(), (1 << 20) / cost);
    assert!(endpoint.takeover_bytes() <= 1 << 20);
    let connections: Vec<_> = agreements
        .into_iter()
        .map(|agreement| Connection::new(Time::from_millis(0), 0).with_deflate(agreement))
        .collect();
    assert!(endpoint.takeover_bytes() > 0);
    drop(connections);
    assert_eq!(endpoint.takeover_bytes(), 0);
}

#[test]
fn a_connection_that_ends_returns_its_budget_at_once() {
    let mut endpoint = endpoint(&with_takeover(server()));
    let mut connection = connect(&endpoint, Time::from_millis(0));
    assert!(endpoint.takeover_bytes() > 0);
    receive_on(
        &mut connection,
        &mut endpoint,
        [masked(0x88, b"").as_slice()],
    );
    assert_eq!(endpoint.takeover_bytes(), 0);
}

#[test]
fn compressed_messages_are_dropped_while_closing() {
    let mut endpoint = endpoint(&with_deflate(server()));
    let mut connection = connect(&endpoint, Time::from_millis(0));
    let mut out = Vec::new();
    let code = CloseCode::NORMAL_CLOSURE;
    connection
        .start_closing_handshake(
            &mut endpoint,
            code,
            "",
            Cause::LocalClose,
            &mut out,
            Time::from_millis(0),
        )
        .unwrap();
    let bytes = [
        masked(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"),
        masked(0x88, b"\x03\xe8"),
    ]
    .concat();
    let trace = receive_on(&mut connection, &mut endpoint, [bytes.as_slice()]);
    assert_eq!(trace.events, []);
    assert_eq!(trace.disconnect.unwrap().cause, Cause::LocalClose);
}

#[test]
fn connections_share_a_compressed_broadcast() {
    let mut from = endpoint(&with_deflate(server()));
    let frame = from.encode_compressed(Opcode::Text, &b"tide ".repeat(100));
    assert!(frame.len() < 40);
    let connection = connect(&from, Time::from_millis(0));
    assert!(connection.shares_compression(&from));
    assert!(!Connection::new(Time::from_millis(0), 0).shares_compression(&from));
    let small = from
        .accept_deflate(["permessage-deflate; server_max_window_bits=10"])
        .unwrap();
    assert!(
        !Connection::new(Time::from_millis(0), 0)
            .with_deflate(small)
            .shares_compression(&from)
    );
    let with_context = endpoint(&with_takeover(server()));
    assert!(!connect(&with_context, Time::from_millis(0)).shares_compression(&with_context));
    let trace = receive(&with_deflate(client()), &frame);
    assert_eq!(trace.open_events(), [text(&"tide ".repeat(100))]);
    let mut off = endpoint(&server());
    assert_eq!(
        off.encode_compressed(Opcode::Text, b"Hello"),
        b"\x81\x05Hello"[..]
    );
}

proptest! {
    #[test]
    fn any_messages_survive_compression(
        messages: Vec<Vec<u8>>, takeover: bool, window_bits in 9..=15_u8, piece_size in 1..200_usize
    ) {
        let mut deflate = Deflate::default();
        deflate.threshold = 0;
        deflate.context_takeover = takeover;
        deflate.max_window_bits = window_bits;
        let (mut client, mut server) = (client(), server());
        client.deflate = Some(deflate.clone());
        server.deflate = Some(deflate);
        let expected: Vec<_> = messages.iter().map(|message| binary(message)).collect();
        prop_assert_eq!(round_trip(&client, &server, &messages, piece_size), expected);
    }

    #[test]
    fn any_compressed_bytes_cause_no_panic(payloads: Vec<Vec<u8>>, takeover: bool) {
        let config = if takeover { with_takeover(server()) } else { with_deflate(server()) };
        let bytes: Vec<u8> = payloads.iter().flat_map(|payload| masked(0xc2, payload)).collect();
        let whole = receive_pieces(&config, [bytes.as_slice()]);
        prop_assert_eq!(receive_pieces(&config, bytes.chunks(3)), whole);
    }
}
