//! RFC 7692 6 and 7.2: received compressed messages, as literal bytes under the number of the section.

mod common;

use common::{
    Observed, binary, client, masked, receive, server, text, unmasked, with_deflate, with_takeover,
};
use tidewheel_codec::{Cause, CloseCode, Violation};

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
        "compression was not negotiated"
    );
}

#[test]
fn section_6_an_uncompressed_message_is_accepted() {
    let trace = receive(&with_deflate(server()), &masked(0x81, b"Hello"));
    assert_eq!(trace.open_events(), [text("Hello")]);
}

#[test]
fn section_7_2_3_1_one_compressed_block_is_decompressed() {
    let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    let trace = receive(&with_deflate(server()), &masked(0xc1, hello));
    assert_eq!(trace.open_events(), [text("Hello")]);
    let trace = receive(&with_deflate(client()), &unmasked(0xc1, hello));
    assert_eq!(trace.open_events(), [text("Hello")]);
    let fragments = [
        masked(0x41, &hello[..3]),
        masked(0x89, b"?"),
        masked(0x80, &hello[3..]),
    ]
    .concat();
    let trace = receive(&with_deflate(server()), &fragments);
    assert_eq!(
        trace.open_events(),
        [Observed::Ping(b"?".to_vec()), text("Hello")]
    );
}

#[test]
fn section_7_2_3_2_messages_may_share_the_window_with_takeover() {
    let bytes = [
        masked(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00"),
        masked(0xc1, b"\xf2\x00\x11\x00\x00"),
    ]
    .concat();
    let trace = receive(&with_takeover(server()), &bytes);
    assert_eq!(trace.open_events(), [text("Hello"), text("Hello")]);
    // Without takeover, the reference of the second message is invalid.
    let trace = receive(&with_deflate(server()), &bytes);
    assert_eq!(trace.events, [text("Hello")]);
    assert_eq!(
        trace.disconnect.unwrap().cause,
        Cause::ProtocolError(Violation::CorruptDeflate)
    );
}

#[test]
fn section_7_2_3_3_a_block_without_compression_is_accepted() {
    let bytes = masked(0xc1, b"\x00\x05\x00\xfa\xffHello\x00");
    assert_eq!(
        receive(&with_deflate(server()), &bytes).open_events(),
        [text("Hello")]
    );
}

#[test]
fn section_7_2_3_4_a_block_that_is_marked_as_the_last_is_accepted() {
    let hello = masked(0xc1, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00");
    let trace = receive(
        &with_deflate(server()),
        &[hello.clone(), hello.clone()].concat(),
    );
    assert_eq!(trace.open_events(), [text("Hello"), text("Hello")]);
    let trace = receive(&with_takeover(server()), &[hello.clone(), hello].concat());
    assert_eq!(trace.open_events(), [text("Hello"), text("Hello")]);
    // Without the empty block that follows in RFC 7692.
    let hello = masked(0xc1, b"\xf3\x48\xcd\xc9\xc9\x07\x00");
    let trace = receive(&with_takeover(server()), &[hello.clone(), hello].concat());
    assert_eq!(trace.open_events(), [text("Hello"), text("Hello")]);
}

#[test]
fn section_7_2_3_5_two_blocks_are_decompressed() {
    let bytes = masked(
        0xc1,
        b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
    );
    assert_eq!(
        receive(&with_deflate(server()), &bytes).open_events(),
        [text("Hello")]
    );
}

#[test]
fn section_7_2_3_6_an_empty_message_is_accepted() {
    let bytes = [
        masked(0xc1, b"\x00"),
        masked(0xc2, b""),
        masked(0xc1, b"\x02\x00"),
    ]
    .concat();
    let trace = receive(&with_takeover(server()), &bytes);
    assert_eq!(trace.open_events(), [text(""), binary(b""), text("")]);
    let fragments = [masked(0x41, b""), masked(0x00, b"\x00"), masked(0x80, b"")].concat();
    assert_eq!(
        receive(&with_deflate(server()), &fragments).open_events(),
        [text("")]
    );
}

#[test]
fn a_corrupt_message_fails_with_1007() {
    // The reserved block type 3, and a stored block with contradictory lengths.
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
fn invalid_utf_8_in_a_compressed_text_fails() {
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
        receive(&with_deflate(server()), &as_binary).open_events(),
        [binary(b"\xc3\x28")]
    );
}
