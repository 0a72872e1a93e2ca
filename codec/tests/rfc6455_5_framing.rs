//! RFC 6455 5: data framing, as literal bytes under the number of the section.

mod common;

use common::{Observed, binary, client, masked, receive, receive_pieces, server, text, unmasked};
use tidewheel_codec::frame::{FrameHeader, Opcode, encode_frame};
use tidewheel_codec::{Cause, CloseCode, Config, Initiator, Transmit, Violation};

/// Asserts that `bytes` fail the connection. Returns the violation.
fn violation(config: &Config, bytes: &[u8]) -> Violation {
    let trace = receive(config, bytes);
    let disconnect = trace.disconnect.as_ref().expect("the connection fails");
    assert_eq!(disconnect.initiator, Initiator::Local);
    assert_eq!(trace.transmit, Transmit::Finish);
    let Cause::ProtocolError(violation) = disconnect.cause else {
        panic!("cause is {:?}", disconnect.cause);
    };
    assert_eq!(trace.sent_code(), Some(violation.close_code()));
    assert_eq!(trace.sent_reason(), violation.to_string());
    violation
}

#[test]
fn section_5_1_a_client_frame_must_be_masked() {
    assert_eq!(
        violation(&server(), b"\x81\x05Hello"),
        Violation::UnmaskedClientFrame
    );
    assert_eq!(
        violation(&server(), b"\x89\x00"),
        Violation::UnmaskedClientFrame
    );
}

#[test]
fn section_5_1_a_server_frame_must_not_be_masked() {
    assert_eq!(
        violation(&client(), b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"),
        Violation::MaskedServerFrame
    );
}

#[test]
fn section_5_2_reserved_bits_need_an_extension() {
    for reserved in 1..8_u8 {
        let got = violation(&server(), &masked(0x81 | reserved << 4, b"x"));
        assert_eq!(got, Violation::ReservedBits { got: reserved });
        let got = violation(&server(), &masked(0x89 | reserved << 4, b"x"));
        assert_eq!(got, Violation::ReservedBits { got: reserved });
    }
}

#[test]
fn section_5_2_reserved_opcodes_fail() {
    for opcode in (3..8).chain(11..16) {
        let got = violation(&server(), &masked(0x80 | opcode, b""));
        assert_eq!(got, Violation::ReservedOpcode { got: opcode });
    }
}

#[test]
fn section_5_2_every_form_of_a_length_is_accepted() {
    for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
        let payload = vec![b'*'; len];
        let trace = receive_pieces(&server(), [masked(0x82, &payload).as_slice()]);
        assert_eq!(trace.open_events(), [binary(&payload)], "{len} bytes");
        let trace = receive_pieces(&client(), [unmasked(0x82, &payload).as_slice()]);
        assert_eq!(trace.open_events(), [binary(&payload)], "{len} bytes");
    }
}

#[test]
fn section_5_2_a_length_must_be_minimal() {
    let got = violation(&server(), b"\x82\xfe\x00\x7d");
    assert_eq!(got, Violation::NonMinimalLength { got: 125 });
    let got = violation(&server(), b"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff");
    assert_eq!(got, Violation::NonMinimalLength { got: 65_535 });
}

#[test]
fn section_5_2_the_top_bit_of_a_length_must_be_0() {
    let got = violation(&server(), b"\x82\xff\x80\x00\x00\x00\x00\x01\x00\x00");
    assert_eq!(got, Violation::LengthTopBit);
}

#[test]
fn section_5_3_the_payload_is_unmasked() {
    let trace = receive(&server(), &masked(0x82, &[0; 9]));
    assert_eq!(trace.open_events(), [binary(&[0; 9])]);
}

#[test]
fn section_5_4_fragments_are_one_message() {
    let bytes = [
        masked(0x01, b"He"),
        masked(0x00, b""),
        masked(0x00, b"ll"),
        masked(0x80, b"o"),
    ]
    .concat();
    assert_eq!(receive(&server(), &bytes).open_events(), [text("Hello")]);
}

#[test]
fn section_5_4_control_frames_may_stand_between_fragments() {
    let bytes = [
        masked(0x01, b"He"),
        masked(0x89, b"?"),
        masked(0x8a, b"!"),
        masked(0x80, b"llo"),
    ]
    .concat();
    let trace = receive(&server(), &bytes);
    let expected = [
        Observed::Ping(b"?".to_vec()),
        Observed::Pong(b"!".to_vec()),
        text("Hello"),
    ];
    assert_eq!(trace.open_events(), expected);
    assert_eq!(trace.out, b"\x8a\x01?");
}

#[test]
fn section_5_4_a_continuation_needs_a_message() {
    let got = violation(&server(), &masked(0x80, b"llo"));
    assert_eq!(got, Violation::UnexpectedContinuation);
    let got = violation(&server(), &masked(0x00, b"llo"));
    assert_eq!(got, Violation::UnexpectedContinuation);
    let after_a_message = [masked(0x01, b"a"), masked(0x80, b"b"), masked(0x80, b"c")].concat();
    assert_eq!(
        violation(&server(), &after_a_message),
        Violation::UnexpectedContinuation
    );
}

#[test]
fn section_5_4_messages_must_not_be_interleaved() {
    let bytes = [masked(0x01, b"a"), masked(0x81, b"b")].concat();
    assert_eq!(violation(&server(), &bytes), Violation::InterleavedMessage);
    let bytes = [masked(0x02, b"a"), masked(0x02, b"b")].concat();
    assert_eq!(violation(&server(), &bytes), Violation::InterleavedMessage);
}

#[test]
fn section_5_5_a_control_frame_must_not_be_fragmented() {
    for opcode in [0x08, 0x09, 0x0a] {
        let got = violation(&server(), &masked(opcode, b""));
        assert_eq!(got, Violation::FragmentedControlFrame);
    }
}

#[test]
fn section_5_5_a_control_frame_has_125_bytes_at_most() {
    let trace = receive(&server(), &masked(0x89, &[b'*'; 125]));
    assert_eq!(trace.open_events(), [Observed::Ping(vec![b'*'; 125])]);
    assert_eq!(trace.out, unmasked(0x8a, &[b'*'; 125]));
    let got = violation(&server(), &masked(0x89, &[b'*'; 126]));
    assert_eq!(got, Violation::ControlFrameTooLong { got: 126 });
    let got = violation(&server(), b"\x8a\xff");
    assert_eq!(got, Violation::ControlFrameTooLong { got: 65_536 });
}

#[test]
fn section_5_5_2_pings_are_answered_in_order() {
    let bytes = [masked(0x89, b"1"), masked(0x89, b""), masked(0x89, b"3")].concat();
    let trace = receive(&server(), &bytes);
    assert_eq!(trace.events.len(), 3);
    assert_eq!(trace.out, b"\x8a\x011\x8a\x00\x8a\x013");
}

#[test]
fn section_5_5_3_an_unsolicited_pong_is_accepted() {
    let trace = receive(&server(), &masked(0x8a, b"beat"));
    assert_eq!(trace.open_events(), [Observed::Pong(b"beat".to_vec())]);
    assert_eq!(trace.out, b"");
}

#[test]
fn section_5_7_the_examples_are_received() {
    let hello = [text("Hello")];
    assert_eq!(
        receive(&client(), b"\x81\x05\x48\x65\x6c\x6c\x6f").open_events(),
        hello
    );
    let bytes = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(receive(&server(), bytes).open_events(), hello);
    assert_eq!(
        receive(&client(), b"\x01\x03\x48\x65\x6c\x80\x02\x6c\x6f").open_events(),
        hello
    );

    let trace = receive(&client(), b"\x89\x05\x48\x65\x6c\x6c\x6f");
    assert_eq!(trace.open_events(), [Observed::Ping(b"Hello".to_vec())]);
    let bytes = b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(
        receive(&server(), bytes).open_events(),
        [Observed::Pong(b"Hello".to_vec())]
    );

    let payload = [0xa5; 256];
    let bytes = [b"\x82\x7e\x01\x00".as_slice(), &payload].concat();
    assert_eq!(receive(&client(), &bytes).open_events(), [binary(&payload)]);
    let payload = [0xa5; 65_536];
    let bytes = [
        b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00".as_slice(),
        &payload,
    ]
    .concat();
    assert_eq!(
        receive_pieces(&client(), [bytes.as_slice()]).open_events(),
        [binary(&payload)]
    );
    assert_eq!(
        receive_pieces(&client(), bytes.chunks(4096)).open_events(),
        [binary(&payload)]
    );
}

#[test]
fn section_5_7_the_examples_are_encoded() {
    assert_eq!(
        &encode_frame(Opcode::Text, b"Hello")[..],
        b"\x81\x05\x48\x65\x6c\x6c\x6f"
    );
    assert_eq!(
        &encode_frame(Opcode::Binary, &[0; 256])[..4],
        b"\x82\x7e\x01\x00"
    );
    let frame = encode_frame(Opcode::Binary, &[0; 65_536]);
    assert_eq!(&frame[..10], b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00");
    let mut masked = Vec::new();
    FrameHeader::new(Opcode::Text, Some([0x37, 0xfa, 0x21, 0x3d]), 5).encode(&mut masked);
    assert_eq!(masked, b"\x81\x85\x37\xfa\x21\x3d");
}

#[test]
fn section_8_1_text_must_be_utf_8() {
    assert_eq!(
        violation(&server(), &masked(0x81, b"\xff")),
        Violation::InvalidUtf8
    );
    assert_eq!(
        violation(&server(), &masked(0x81, b"\xe2\x82")),
        Violation::InvalidUtf8
    );
    let over_fragments = [masked(0x01, b"\xe2\x82"), masked(0x80, b"\x28")].concat();
    assert_eq!(
        violation(&server(), &over_fragments),
        Violation::InvalidUtf8
    );
}

#[test]
fn section_8_1_a_sequence_may_span_fragments() {
    let bytes = [
        masked(0x01, b"\xe2"),
        masked(0x00, b"\x82"),
        masked(0x80, b"\xac"),
    ]
    .concat();
    assert_eq!(receive(&server(), &bytes).open_events(), [text("\u{20ac}")]);
}

#[test]
fn section_8_1_invalid_text_fails_before_its_frame_is_complete() {
    let frame = masked(0x81, b"a\xf4\x90 and much more");
    let trace = receive_pieces(&server(), [&frame[..9]]);
    assert_eq!(
        trace.sent_code(),
        Some(CloseCode::INVALID_FRAME_PAYLOAD_DATA)
    );
}

#[test]
fn section_10_4_a_message_above_the_limit_fails_with_1009() {
    let mut config = server();
    config.max_message_size = 5;
    assert_eq!(
        receive(&config, &masked(0x81, b"Hello")).open_events(),
        [text("Hello")]
    );
    let in_fragments = [masked(0x01, b"Hel"), masked(0x80, b"lo")].concat();
    assert_eq!(
        receive(&config, &in_fragments).open_events(),
        [text("Hello")]
    );

    let too_big = [
        masked(0x81, b"Hello!"),
        [masked(0x01, b"Hel"), masked(0x80, b"lo!")].concat(),
        // The header alone.
        b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x37\xfa\x21\x3d".to_vec(),
    ];
    for bytes in too_big {
        let trace = receive(&config, &bytes);
        assert_eq!(trace.sent_code(), Some(CloseCode::MESSAGE_TOO_BIG));
        assert_eq!(trace.disconnect.unwrap().cause, Cause::TooBig);
    }
}

#[test]
fn section_10_4_a_frame_above_the_limit_fails_with_1009() {
    let mut config = server();
    config.max_frame_size = 3;
    let in_fragments = [masked(0x01, b"Hel"), masked(0x80, b"lo")].concat();
    assert_eq!(
        receive(&config, &in_fragments).open_events(),
        [text("Hello")]
    );
    let trace = receive(&config, &masked(0x81, b"Hell"));
    assert_eq!(trace.sent_code(), Some(CloseCode::MESSAGE_TOO_BIG));
    let trace = receive(&config, &masked(0x89, b"control frames have another"));
    assert_eq!(trace.disconnect, None);
}

#[test]
fn section_10_4_fragments_above_the_limit_fail_with_1009() {
    let mut config = server();
    config.max_fragments = 3;
    let three = [masked(0x02, b"1"), masked(0x00, b"2"), masked(0x80, b"3")].concat();
    assert_eq!(receive(&config, &three).open_events(), [binary(b"123")]);
    let four = [
        masked(0x02, b"1"),
        masked(0x00, b"2"),
        masked(0x00, b"3"),
        masked(0x80, b"4"),
    ]
    .concat();
    assert_eq!(
        receive(&config, &four).disconnect.unwrap().cause,
        Cause::TooBig
    );
}

#[test]
fn section_10_4_the_default_allows_131072_fragments() {
    let mut bytes = masked(0x01, b"x");
    for _ in 0..131_070 {
        bytes.extend(masked(0x00, b"x"));
    }
    bytes.extend(masked(0x80, b"x"));
    let trace = receive_pieces(&server(), bytes.chunks(16 << 10));
    assert_eq!(trace.open_events(), [Observed::Text("x".repeat(131_072))]);
}
