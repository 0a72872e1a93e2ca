//! RFC 6455 7: closing the connection, as literal bytes under the number of the section.

mod common;

use common::{Observed, client, masked, receive, server, unmasked};
use tidewheel_codec::{Cause, CloseCode, Initiator, Transmit, Violation};

#[test]
fn section_5_5_1_a_close_is_answered_with_its_code() {
    let trace = receive(&server(), &masked(0x88, b"\x03\xe8bye"));
    assert_eq!(trace.out, b"\x88\x02\x03\xe8");
    assert_eq!(trace.transmit, Transmit::Finish);
    let disconnect = trace.disconnect.unwrap();
    assert_eq!(
        (disconnect.initiator, disconnect.cause),
        (Initiator::Peer, Cause::PeerClose)
    );
    let received = disconnect.received.as_ref().unwrap();
    assert_eq!(
        (received.code, &*received.reason),
        (CloseCode::NORMAL_CLOSURE, "bye")
    );
    assert_eq!(
        disconnect.sent.as_ref().unwrap().code,
        CloseCode::NORMAL_CLOSURE
    );
    assert_eq!(disconnect.code(), CloseCode::NORMAL_CLOSURE);
}

#[test]
fn section_7_1_5_a_close_without_a_code_is_reported_as_1005_and_answered_without_a_code() {
    let trace = receive(&server(), &masked(0x88, b""));
    assert_eq!(trace.out, b"\x88\x00");
    assert_eq!(
        trace.disconnect.unwrap().code(),
        CloseCode::NO_STATUS_RECEIVED
    );
}

#[test]
fn section_5_5_1_frames_after_a_close_are_ignored() {
    let bytes = [
        masked(0x88, b"\x03\xe8"),
        masked(0x81, b"late"),
        b"\xff\xff\xff\xff".to_vec(),
    ]
    .concat();
    let trace = receive(&server(), &bytes);
    assert_eq!(trace.events, []);
    assert_eq!(trace.out, b"\x88\x02\x03\xe8");
    assert_eq!(trace.disconnect.unwrap().cause, Cause::PeerClose);
}

#[test]
fn section_5_5_1_frames_before_a_close_are_delivered() {
    let bytes = [
        masked(0x82, b"last"),
        masked(0x89, b"?"),
        masked(0x88, b"\x0f\xa0"),
    ]
    .concat();
    let trace = receive(&server(), &bytes);
    assert_eq!(
        trace.events,
        [
            Observed::Binary(b"last".to_vec()),
            Observed::Ping(b"?".to_vec())
        ]
    );
    assert_eq!(trace.out, b"\x8a\x01?\x88\x02\x0f\xa0");
}

#[test]
fn section_5_5_1_a_close_may_interrupt_a_message() {
    let bytes = [masked(0x01, b"He"), masked(0x88, b"\x03\xe9")].concat();
    let trace = receive(&server(), &bytes);
    assert_eq!(trace.events, []);
    assert_eq!(trace.disconnect.unwrap().cause, Cause::PeerClose);
}

#[test]
fn section_5_5_1_a_close_of_1_byte_fails() {
    let trace = receive(&server(), &masked(0x88, b"\x03"));
    assert_eq!(trace.sent_code(), Some(CloseCode::PROTOCOL_ERROR));
    assert_eq!(
        trace.disconnect.unwrap().cause,
        Cause::ProtocolError(Violation::TruncatedCloseCode)
    );
}

#[test]
fn section_5_5_1_the_reason_must_be_utf_8() {
    let trace = receive(&server(), &masked(0x88, b"\x03\xe8\xce\xba\xff"));
    assert_eq!(
        trace.sent_code(),
        Some(CloseCode::INVALID_FRAME_PAYLOAD_DATA)
    );
}

#[test]
fn section_5_5_1_the_reason_may_be_123_bytes() {
    let payload = [b"\x03\xe8".as_slice(), &[b'*'; 123]].concat();
    let trace = receive(&server(), &masked(0x88, &payload));
    assert_eq!(
        trace.disconnect.unwrap().received.unwrap().reason.len(),
        123
    );
}

#[test]
fn section_7_4_only_sendable_codes_are_accepted() {
    for code in 0..=u16::MAX {
        let trace =
            common::receive_pieces(&server(), [masked(0x88, &code.to_be_bytes()).as_slice()]);
        if matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            assert_eq!(
                trace.out,
                unmasked(0x88, &code.to_be_bytes()),
                "code {code}"
            );
        } else {
            assert_eq!(
                trace.sent_code(),
                Some(CloseCode::PROTOCOL_ERROR),
                "code {code}"
            );
            let cause = Cause::ProtocolError(Violation::InvalidCloseCode { got: code });
            assert_eq!(trace.disconnect.unwrap().cause, cause);
        }
    }
}

#[test]
fn section_7_1_1_a_client_waits_for_the_fin_of_the_server() {
    let trace = receive(&client(), b"\x88\x02\x03\xe8");
    assert_eq!(trace.transmit, Transmit::Nothing);
    assert_eq!(trace.out.len(), 8, "a masked Close with a code");
    assert_eq!(trace.disconnect.unwrap().cause, Cause::PeerClose);
}

#[test]
fn section_7_1_7_a_client_fails_the_connection() {
    let trace = receive(&client(), b"\x83\x00");
    assert_eq!(trace.transmit, Transmit::Finish);
    assert_eq!(trace.sent_code(), Some(CloseCode::PROTOCOL_ERROR));
}
