//! Properties of random inputs.

mod common;

use common::{SEED, Trace, client, receive_lent, receive_pieces, receive_shares, server};
use proptest::prelude::*;
use tidewheel_codec::frame::{FrameHeader, Opcode};
use tidewheel_codec::mask::{key_at, mask};
use tidewheel_codec::utf8::{self, Validator};
use tidewheel_codec::{Config, Connection, Endpoint, Role, Time};

fn opcode() -> impl Strategy<Value = Opcode> {
    prop_oneof![
        Just(Opcode::Continuation),
        Just(Opcode::Text),
        Just(Opcode::Binary),
        Just(Opcode::Close),
        Just(Opcode::Ping),
        Just(Opcode::Pong),
    ]
}

/// Payload lengths, often near the bounds of each encoding.
fn payload_len() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..130_u64,
        65_530..65_540_u64,
        0..1_u64 << 20,
        0..1_u64 << 63
    ]
}

prop_compose! {
    fn frame_header()(
        opcode in opcode(),
        fin: bool,
        reserved in 0..8_u8,
        masking_key: Option<[u8; 4]>,
        payload_len in payload_len(),
    ) -> FrameHeader {
        let is_control = opcode.is_control();
        FrameHeader {
            fin: fin || is_control,
            reserved,
            opcode,
            masking_key,
            payload_len: if is_control { payload_len % 126 } else { payload_len },
        }
    }
}

/// Frames, most with valid headers and many with valid payloads, followed by random bytes.
fn nearly_frames(masked: bool) -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        any::<Vec<u8>>(),
        ".{0,60}".prop_map(String::into_bytes),
        (1000..1016_u16, ".{0,9}").prop_map(|(code, reason)| [
            &code.to_be_bytes(),
            reason.as_bytes()
        ]
        .concat()),
    ];
    let first = prop_oneof![
        8 => prop_oneof![Just(0x81), Just(0x82), Just(0x01), Just(0x00), Just(0x80), Just(0x89), Just(0x8a)],
        1 => Just(0x88),
        1 => any::<u8>(),
    ];
    let frame = (first, payload).prop_map(move |(first, payload)| {
        if masked {
            common::masked(first, &payload)
        } else {
            common::unmasked(first, &payload)
        }
    });
    let trailing = prop::collection::vec(any::<u8>(), 0..20);
    (prop::collection::vec(frame, 0..8), trailing)
        .prop_map(|(frames, trailing)| [frames.concat(), trailing].concat())
}

fn in_pieces(config: &Config, bytes: &[u8], sizes: &[usize]) -> Trace {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for &size in sizes {
        let (piece, after) = rest.split_at(size.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    receive_pieces(config, pieces)
}

fn validate_in_pieces(text: &[u8], sizes: &[usize]) -> bool {
    let mut validator = Validator::new();
    let mut rest = text;
    for &size in sizes {
        let (piece, after) = rest.split_at(size.min(rest.len()));
        if validator.push(piece).is_err() {
            return false;
        }
        rest = after;
    }
    validator.push(rest).is_ok() && validator.finish().is_ok()
}

proptest! {
    #[test]
    fn parsing_an_encoded_header_returns_it(header in frame_header(), rest: Vec<u8>) {
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        prop_assert_eq!(bytes.len(), header.size());
        for size in 0..bytes.len() {
            prop_assert_eq!(FrameHeader::parse(&bytes[..size]), Ok(None));
        }
        bytes.extend(rest);
        prop_assert_eq!(FrameHeader::parse(&bytes), Ok(Some(header)));
    }

    #[test]
    fn a_parsed_header_encodes_to_the_same_bytes(bytes: [u8; 14]) {
        if let Ok(Some(header)) = FrameHeader::parse(&bytes) {
            let mut encoded = Vec::new();
            header.encode(&mut encoded);
            prop_assert_eq!(&encoded[..], &bytes[..header.size()]);
        }
    }

    #[test]
    fn masking_is_its_own_inverse(bytes: Vec<u8>, key: [u8; 4], position in 0..1000_usize) {
        let mut masked = bytes.clone();
        mask(&mut masked, key_at(key, position));
        let expected: Vec<u8> =
            bytes.iter().enumerate().map(|(i, byte)| byte ^ key[(position + i) % 4]).collect();
        prop_assert_eq!(&masked, &expected);
        mask(&mut masked, key_at(key, position));
        prop_assert_eq!(masked, bytes);
    }

    #[test]
    fn validation_in_pieces_equals_from_utf8(bytes: Vec<u8>, sizes: Vec<u8>) {
        let sizes: Vec<usize> = sizes.into_iter().map(|size| usize::from(size % 5)).collect();
        let expected = std::str::from_utf8(&bytes).is_ok();
        prop_assert_eq!(validate_in_pieces(&bytes, &sizes), expected);
        prop_assert_eq!(utf8::is_valid(&bytes), expected);
    }

    #[test]
    fn validation_in_pieces_accepts_text(text: String, sizes: Vec<u8>) {
        let sizes: Vec<usize> = sizes.into_iter().map(|size| usize::from(size % 5)).collect();
        prop_assert!(validate_in_pieces(text.as_bytes(), &sizes));
    }

    #[test]
    fn a_server_behaves_the_same_for_any_pieces(bytes in nearly_frames(true), sizes: Vec<u8>) {
        let sizes: Vec<usize> = sizes.into_iter().map(usize::from).collect();
        let whole = receive_pieces(&server(), [bytes.as_slice()]);
        prop_assert_eq!(in_pieces(&server(), &bytes, &sizes), whole);
    }

    #[test]
    fn a_client_behaves_the_same_for_any_pieces(bytes in nearly_frames(false), sizes: Vec<u8>) {
        let sizes: Vec<usize> = sizes.into_iter().map(usize::from).collect();
        let whole = receive_pieces(&client(), [bytes.as_slice()]);
        prop_assert_eq!(in_pieces(&client(), &bytes, &sizes), whole);
    }

    #[test]
    fn a_server_behaves_the_same_with_a_limit_of_frames(bytes in nearly_frames(true), frames_max in 1..5_u32) {
        let whole = receive_pieces(&server(), [bytes.as_slice()]);
        prop_assert_eq!(receive_shares(&server(), &bytes, frames_max), whole);
    }

    #[test]
    fn a_server_behaves_the_same_with_lent_buffers(
        bytes in nearly_frames(true),
        sizes: Vec<u8>,
    ) {
        let sizes: Vec<usize> = sizes.into_iter().map(usize::from).collect();
        let whole = receive_pieces(&server(), [bytes.as_slice()]);
        prop_assert_eq!(receive_lent(&server(), &bytes, &sizes), whole);
    }

    #[test]
    fn any_bytes_cause_no_panic(bytes: Vec<u8>) {
        receive_pieces(&server(), [bytes.as_slice()]);
        receive_pieces(&client(), [bytes.as_slice()]);
    }

    #[test]
    fn a_side_receives_the_messages_that_the_other_sends(
        messages in prop::collection::vec(any::<(bool, String)>(), 0..8),
        role in prop_oneof![Just(Role::Client), Just(Role::Server)],
        sizes: Vec<u8>,
    ) {
        let (sender, receiver) = match role {
            Role::Client => (client(), server()),
            Role::Server => (server(), client()),
        };
        let mut endpoint = Endpoint::with_seed(sender, SEED).unwrap();
        let mut connection = Connection::new(Time::from_millis(0), 0);
        let mut out = Vec::new();
        let mut expected = Vec::new();
        for (is_text, text) in &messages {
            if *is_text {
                connection.send_text(&mut endpoint, text, &mut out).unwrap();
                expected.push(common::text(text));
            } else {
                connection.send_binary(&mut endpoint, text.as_bytes(), &mut out).unwrap();
                expected.push(common::binary(text.as_bytes()));
            }
        }
        let sizes: Vec<usize> = sizes.into_iter().map(usize::from).collect();
        let trace = in_pieces(&receiver, &out, &sizes);
        prop_assert_eq!(trace.events, expected);
        prop_assert_eq!(trace.disconnect, None);
    }
}
