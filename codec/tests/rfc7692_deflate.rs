//! RFC 7692 6 and 7.2: compressed messages, as literal bytes under the number of the section.

mod common;

use common::{
    Observed, SEED, Trace, binary, client, connect, masked, receive, receive_on, receive_pieces,
    server, text, unmasked,
};
use proptest::prelude::*;
use tidewheel_codec::deflate::Deflate;
use tidewheel_codec::frame::Opcode;
use tidewheel_codec::{Cause, CloseCode, Config, Connection, Endpoint, Time, Violation};

fn with_deflate(mut config: Config) -> Config {
    config.deflate = Some(Deflate {
        threshold: 0,
        ..Deflate::default()
    });
    config
}

fn with_takeover(config: Config) -> Config {
    let mut config = with_deflate(config);
    config.deflate.as_mut().unwrap().context_takeover = true;
    config
}

fn endpoint(config: &Config) -> Endpoint {
    Endpoint::with_seed(config.clone(), SEED).unwrap()
}

fn events(trace: &Trace) -> &[Observed] {
    assert_eq!(trace.disconnect, None);
    &trace.events
}

#[test]
fn section_6_1_only_the_first_frame_of_a_message_has_rsv1() {
    let config = with_deflate(server());
    let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    for bytes in [
        [masked(0x41, &hello[..3]), masked(0xc0, &hello[3..])].concat(),
        masked(0xc9, b""),
        masked(0xca, b""),
        masked(0xc8, b""),
        masked(0xa1, hello),
        masked(0x91, hello),
        masked(0xf1, hello),
    ] {
        let trace = receive(&config, &bytes);
        assert_eq!(
            trace.sent_code(),
            Some(CloseCode::PROTOCOL_ERROR),
            "{bytes:02x?}"
        );
        let cause = trace.disconnect.unwrap().cause;
        assert!(matches!(
            cause,
            Cause::ProtocolError(Violation::ReservedBits { .. })
        ));
    }
    let trace = receive(&server(), &masked(0xc1, hello));
    assert_eq!(
        trace.sent_code(),
        Some(CloseCode::PROTOCOL_ERROR),
        "it was not negotiated"
    );
}

#[test]
fn section_6_an_uncompressed_message_is_no_offence() {
    let trace = receive(&with_deflate(server()), &masked(0x81, b"Hello"));
    assert_eq!(events(&trace), [text("Hello")]);
}

#[test]
fn section_7_2_3_1_one_compressed_block() {
    let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    let trace = receive(&with_deflate(server()), &masked(0xc1, hello));
    assert_eq!(events(&trace), [text("Hello")]);
    let trace = receive(&with_deflate(client()), &unmasked(0xc1, hello));
    assert_eq!(events(&trace), [text("Hello")]);
    let fragments = [
        masked(0x41, &hello[..3]),
        masked(0x89, b"?"),
        masked(0x80, &hello[3..]),
    ]
    .concat();
    let trace = receive(&with_deflate(server()), &fragments);
    assert_eq!(
        events(&trace),
        [Observed::Ping(b"?".to_vec()), text("Hello")]
    );
}

#[test]
fn section_7_2_3_2_sharing_the_window() {
    let bytes = [
        masked(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"),
        masked(0xc1, b"\xf2\x00\x11\x00\x00"),
    ]
    .concat();
    let trace = receive(&with_takeover(server()), &bytes);
    assert_eq!(events(&trace), [text("Hello"), text("Hello")]);
    // Without, the second refers to what is not there.
    let trace = receive(&with_deflate(server()), &bytes);
    assert_eq!(trace.events, [text("Hello")]);
    assert_eq!(
        trace.disconnect.unwrap().cause,
        Cause::ProtocolError(Violation::CorruptDeflate)
    );
}

#[test]
fn section_7_2_3_3_a_block_without_compression() {
    let bytes = masked(0xc1, b"\x00\x05\x00\xfa\xffHello\x00");
    assert_eq!(
        events(&receive(&with_deflate(server()), &bytes)),
        [text("Hello")]
    );
}

#[test]
fn section_7_2_3_4_a_block_that_is_marked_as_the_last() {
    let hello = masked(0xc1, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00");
    let trace = receive(
        &with_deflate(server()),
        &[hello.clone(), hello.clone()].concat(),
    );
    assert_eq!(events(&trace), [text("Hello"), text("Hello")]);
    let trace = receive(&with_takeover(server()), &[hello.clone(), hello].concat());
    assert_eq!(events(&trace), [text("Hello"), text("Hello")]);
    // Without the byte of the empty block that RFC 7692 has behind it.
    let hello = masked(0xc1, b"\xf3\x48\xcd\xc9\xc9\x07\x00");
    let trace = receive(&with_takeover(server()), &[hello.clone(), hello].concat());
    assert_eq!(events(&trace), [text("Hello"), text("Hello")]);
}

#[test]
fn section_7_2_3_5_two_blocks() {
    let bytes = masked(
        0xc1,
        b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
    );
    assert_eq!(
        events(&receive(&with_deflate(server()), &bytes)),
        [text("Hello")]
    );
}

#[test]
fn section_7_2_3_6_an_empty_message() {
    let bytes = [
        masked(0xc1, b"\x00"),
        masked(0xc2, b""),
        masked(0xc1, b"\x02\x00"),
    ]
    .concat();
    let trace = receive(&with_takeover(server()), &bytes);
    assert_eq!(events(&trace), [text(""), binary(b""), text("")]);
    let fragments = [masked(0x41, b""), masked(0x00, b"\x00"), masked(0x80, b"")].concat();
    assert_eq!(
        events(&receive(&with_deflate(server()), &fragments)),
        [text("")]
    );
}

#[test]
fn a_corrupt_stream_is_1007() {
    // Block type 3; a stored block whose lengths contradict each other.
    for payload in [b"\x07\x00".as_slice(), b"\x00\x05\x00\x00\x00Hello\x00"] {
        let trace = receive(&with_deflate(server()), &masked(0xc2, payload));
        assert_eq!(
            trace.sent_code(),
            Some(CloseCode::INVALID_FRAME_PAYLOAD_DATA)
        );
        assert_eq!(
            trace.disconnect.unwrap().cause,
            Cause::ProtocolError(Violation::CorruptDeflate)
        );
    }
}

#[test]
fn compressed_text_is_utf_8() {
    let bytes = masked(0xc1, b"\x00\x02\x00\xfd\xff\xc3\x28\x00");
    let trace = receive(&with_deflate(server()), &bytes);
    assert_eq!(
        trace.disconnect.unwrap().cause,
        Cause::ProtocolError(Violation::InvalidUtf8)
    );
    let unfinished = masked(0xc1, b"\x00\x01\x00\xfe\xff\xc3\x00");
    let trace = receive(&with_deflate(server()), &unfinished);
    assert_eq!(
        trace.disconnect.unwrap().cause,
        Cause::ProtocolError(Violation::InvalidUtf8)
    );
    let as_binary = masked(0xc2, b"\x00\x02\x00\xfd\xff\xc3\x28\x00");
    assert_eq!(
        events(&receive(&with_deflate(server()), &as_binary)),
        [binary(b"\xc3\x28")]
    );
}

/// What a client sends for one message.
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
        assert_eq!(events(&trace), [binary(&fits)]);
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
fn what_does_not_shrink_has_the_same_limit() {
    let mut config = with_deflate(server());
    (config.max_message_size, config.max_frame_size) = (5000, 5000);
    let noise: Vec<u8> = {
        let mut endpoint = endpoint(&client());
        (0..5000 / 8)
            .flat_map(|_| endpoint.handshake_nonce()[..8].to_vec())
            .collect()
    };
    // In stored blocks of 100 bytes, as a sender that flushes often makes them.
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
    assert_eq!(events(&trace), [binary(&noise)]);
    let announced = masked(0xc2, &vec![0; 7000]);
    let trace = receive_pieces(&config, [&announced[..8]]);
    assert_eq!(trace.sent_code(), Some(CloseCode::MESSAGE_TOO_BIG));
}

/// Sends `messages` from one side and receives them on the other, in pieces of `piece_size`.
fn round_trip(
    sender: &Config,
    receiver: &Config,
    messages: &[Vec<u8>],
    piece_size: usize,
) -> Vec<Observed> {
    let (mut from, mut to) = (endpoint(sender), endpoint(receiver));
    let (client, server) = match sender.role {
        tidewheel_codec::Role::Client => (&from, &to),
        tidewheel_codec::Role::Server => (&to, &from),
    };
    let offer = client.offer_deflate().unwrap();
    let by_server = server
        .accept_deflate([offer.as_str()])
        .expect("the offer is possible");
    let response = by_server.to_string();
    let by_client = client
        .confirm_deflate([response.as_str()])
        .unwrap()
        .expect("it was accepted");
    let (agreed_from, agreed_to) = match sender.role {
        tidewheel_codec::Role::Client => (by_client, by_server),
        tidewheel_codec::Role::Server => (by_server, by_client),
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
fn each_window_and_takeover_both_ways() {
    let messages = messages();
    let expected: Vec<_> = messages.iter().map(|message| binary(message)).collect();
    for window_bits in 9..=15 {
        for context_takeover in [false, true] {
            let deflate = Deflate {
                threshold: 0,
                context_takeover,
                max_window_bits: window_bits,
                peer_max_window_bits: 24 - window_bits,
                ..Deflate::default()
            };
            let (mut client, mut server) = (client(), server());
            client.deflate = Some(deflate.clone());
            server.deflate = Some(deflate);
            assert_eq!(round_trip(&client, &server, &messages, 4096), expected);
            assert_eq!(round_trip(&server, &client, &messages, 1 << 20), expected);
        }
    }
}

#[test]
fn each_level() {
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
fn below_the_threshold_and_without_a_gain_messages_are_sent_as_they_are() {
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
fn the_budget_of_takeover_is_given_back() {
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
        "behind the budget, without"
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
fn a_connection_that_ends_gives_its_budget_back_at_once() {
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
fn a_broadcast_is_compressed_once() {
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
    assert_eq!(events(&trace), [text(&"tide ".repeat(100))]);
    let mut off = endpoint(&server());
    assert_eq!(
        off.encode_compressed(Opcode::Text, b"Hello"),
        b"\x81\x05Hello"[..]
    );
}

proptest! {
    #[test]
    fn any_messages_make_the_round_trip(
        messages: Vec<Vec<u8>>, takeover: bool, window_bits in 9..=15_u8, piece_size in 1..200_usize
    ) {
        let deflate = Deflate {
            threshold: 0, context_takeover: takeover, max_window_bits: window_bits, ..Deflate::default()
        };
        let (mut client, mut server) = (client(), server());
        client.deflate = Some(deflate.clone());
        server.deflate = Some(deflate);
        let expected: Vec<_> = messages.iter().map(|message| binary(message)).collect();
        prop_assert_eq!(round_trip(&client, &server, &messages, piece_size), expected);
    }

    #[test]
    fn any_bytes_as_deflate_end_in_no_panic(payloads: Vec<Vec<u8>>, takeover: bool) {
        let config = if takeover { with_takeover(server()) } else { with_deflate(server()) };
        let bytes: Vec<u8> = payloads.iter().flat_map(|payload| masked(0xc2, payload)).collect();
        let whole = receive_pieces(&config, [bytes.as_slice()]);
        prop_assert_eq!(receive_pieces(&config, bytes.chunks(3)), whole);
    }
}
