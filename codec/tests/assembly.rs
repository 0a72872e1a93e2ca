//! Lent buffers: messages that are received into the buffer in which they are assembled.

mod common;

use common::{
    Observed, SEED, connect, masked, receive_lent, receive_pieces, server, text, unmasked,
};
use tidewheel_codec::deflate::Deflate;
use tidewheel_codec::frame::Opcode;
use tidewheel_codec::{
    Cause, CloseCode, Connection, Endpoint, Event, Reply, Role, Time, Transmit, Violation,
};

const NOW: Time = Time::from_millis(1);

/// Returns a connection that has received `bytes`, and its events.
fn after(bytes: &[u8]) -> (Endpoint, Connection, Vec<Observed>) {
    let mut endpoint = Endpoint::with_seed(server(), SEED).unwrap();
    let mut connection = Connection::new(Time::from_millis(0), 0);
    let events = receive(&mut endpoint, &mut connection, bytes);
    (endpoint, connection, events)
}

fn receive(endpoint: &mut Endpoint, connection: &mut Connection, bytes: &[u8]) -> Vec<Observed> {
    let mut bytes = bytes.to_vec();
    let mut input = connection.receive(&mut bytes, NOW);
    let mut out = Vec::new();
    let mut events = Vec::new();
    while let Some(event) = connection.poll_event(endpoint, &mut input, &mut out) {
        events.push(Observed::from(event));
    }
    events
}

/// Starts the closing handshake.
fn close(endpoint: &mut Endpoint, connection: &mut Connection) {
    let (code, cause, mut out) = (CloseCode::NORMAL_CLOSURE, Cause::LocalClose, Vec::new());
    connection
        .start_closing_handshake(endpoint, code, "", cause, &mut out, NOW)
        .unwrap();
}

/// Receives as many of `bytes` as fit into the lent buffer. Returns their number.
fn fill(connection: &mut Connection, bytes: &[u8]) -> usize {
    let mut buffer = connection.lend_assembly().expect("the frame is incomplete");
    let received = bytes.len().min(buffer.capacity() - buffer.len());
    buffer.extend_from_slice(&bytes[..received]);
    connection.receive_assembly(buffer, NOW);
    received
}

#[test]
fn no_buffer_is_lent_between_frames_or_in_a_header() {
    let frame = masked(0x82, &[7; 1000]);
    for bytes in [&[][..], &frame[..1], &frame[..7], &frame] {
        let (_, mut connection, _) = after(bytes);
        assert_eq!(connection.lend_assembly(), None, "{} bytes", bytes.len());
    }
    let (_, mut connection, _) = after(&frame[..9]);
    assert_eq!(connection.to_come(), 999);
    assert!(connection.lend_assembly().is_some());
    assert_eq!(
        connection.lend_assembly(),
        None,
        "the buffer is lent already"
    );
}

#[test]
fn no_buffer_is_lent_in_a_control_frame() {
    let ping = masked(0x89, &[7; 100]);
    let fragment = masked(0x02, b"one");
    let (_, mut connection, _) = after(&[&fragment[..], &ping[..20]].concat());
    assert_eq!(connection.to_come(), 0);
    assert_eq!(connection.lend_assembly(), None);
}

#[test]
fn fragments_control_frames_and_text_are_received_in_any_pieces() {
    let text = "κόσμε ".repeat(300);
    let (head, tail) = text.as_bytes().split_at(1001);
    let bytes = [
        masked(0x01, head),
        masked(0x89, b"ping"),
        masked(0x80, tail),
        masked(0x82, b"short"),
        masked(0x88, b"\x03\xe8"),
    ]
    .concat();
    let whole = receive_pieces(&server(), [bytes.as_slice()]);
    assert_eq!(whole.events.len(), 3);
    for size in 1..400 {
        assert_eq!(
            receive_lent(&server(), &bytes, &vec![size; bytes.len()]),
            whole
        );
    }
}

#[test]
fn a_compressed_message_is_received_in_any_pieces() {
    let mut config = server();
    config.deflate = Some(Deflate::default());
    let mut endpoint = Endpoint::with_seed(config.clone(), SEED).unwrap();
    let long: String = (0..500)
        .map(|number| format!("{} ", number * number))
        .collect();
    let mut frame = endpoint
        .encode_compressed(Opcode::Text, long.as_bytes())
        .to_vec();
    let payload = frame.split_off(4);
    let bytes = masked(frame[0], &payload);
    let whole = receive_pieces(&config, [bytes.as_slice()]);
    assert_eq!(whole.events, [text(&long)]);
    for size in 1..200 {
        assert_eq!(
            receive_lent(&config, &bytes, &vec![size; bytes.len()]),
            whole
        );
    }
}

#[test]
fn text_is_validated_as_it_arrives() {
    let bytes = masked(0x81, &[&[b'a'; 500][..], &[0xff], &[b'a'; 1000]].concat());
    let (mut endpoint, mut connection, _) = after(&bytes[..200]);
    assert_eq!(fill(&mut connection, &bytes[200..600]), 400);
    assert!(connection.is_unread() && connection.is_open());
    receive(&mut endpoint, &mut connection, &[]);
    let end = connection
        .poll_disconnect()
        .expect("the connection has failed");
    assert_eq!(end.cause, Cause::ProtocolError(Violation::InvalidUtf8));
    assert_eq!(connection.lend_assembly(), None);
}

#[test]
fn memory_grows_with_the_received_bytes() {
    const SIZE: usize = 1 << 20;
    let bytes = masked(0x82, &[7; SIZE]);
    let mut at = 1000;
    let (mut endpoint, mut connection, _) = after(&bytes[..at]);
    let mut loans = 0;
    let mut events = Vec::new();
    while at < bytes.len() {
        at += fill(&mut connection, &bytes[at..]);
        let memory = connection.assembly_size();
        events = receive(&mut endpoint, &mut connection, &[]);
        assert!(
            memory <= 4 * at + 1024,
            "{memory} bytes when {at} have arrived"
        );
        assert!(memory <= 2 * SIZE + 1024, "{memory} bytes of {SIZE}");
        loans += 1;
    }
    assert_eq!(events, [Observed::Binary(vec![7; SIZE])]);
    assert!(loans <= 7, "{loans} loans");
}

#[test]
fn a_buffer_is_reused_after_its_message_is_dropped() {
    let bytes = masked(0x82, &[7; 100_000]);
    let (mut endpoint, mut connection) = (
        Endpoint::with_seed(server(), SEED).unwrap(),
        Connection::new(NOW, 0),
    );
    let mut places = Vec::new();
    for _ in 0..4 {
        assert_eq!(receive(&mut endpoint, &mut connection, &bytes[..1000]), []);
        let mut at = 1000;
        while at < bytes.len() {
            at += fill(&mut connection, &bytes[at..]);
            let (mut nothing, mut out) = ([], Vec::new());
            let mut input = connection.receive(&mut nothing, NOW);
            if let Some(Event::Message(message)) =
                connection.poll_event(&mut endpoint, &mut input, &mut out)
                && let Reply::Owned(frame) = message.into_frame()
            {
                places.push(frame.as_ptr());
            }
        }
    }
    assert!(places.len() == 4 && places[1..].iter().all(|place| *place == places[1]));
}

#[test]
fn bytes_lent_before_our_close_are_skipped() {
    let message = masked(0x82, &[7; 1000]);
    let answer = masked(0x88, b"\x03\xe8");
    for received in [0, 300, 700] {
        let (mut endpoint, mut connection, _) = after(&message[..308]);
        let mut buffer = connection.lend_assembly().expect("the frame is incomplete");
        close(&mut endpoint, &mut connection);
        assert_eq!(connection.lend_assembly(), None);
        buffer.extend_from_slice(&message[308..308 + received]);
        connection.receive_assembly(buffer, NOW);
        assert_eq!(connection.lend_assembly(), None);
        let rest = [&message[308 + received..], &answer].concat();
        assert_eq!(receive(&mut endpoint, &mut connection, &rest), []);
        let end = connection
            .poll_disconnect()
            .expect("the closing handshake is complete");
        assert_eq!(end.cause, Cause::LocalClose);
        assert_eq!(connection.poll_transmit(), Transmit::Finish);
    }
}

#[test]
fn bytes_unread_before_our_close_are_skipped() {
    let message = masked(0x82, &[7; 1000]);
    let (mut endpoint, mut connection, _) = after(&message[..308]);
    assert_eq!(fill(&mut connection, &message[308..]), 700);
    close(&mut endpoint, &mut connection);
    assert!(!connection.is_unread());
    receive(&mut endpoint, &mut connection, &masked(0x88, b"\x03\xe8"));
    let end = connection
        .poll_disconnect()
        .expect("the closing handshake is complete");
    assert_eq!(end.cause, Cause::LocalClose);
}

#[test]
fn a_buffer_lent_before_the_end_is_dropped() {
    let message = masked(0x82, &[7; 1000]);
    let (mut endpoint, mut connection, _) = after(&message[..308]);
    let mut buffer = connection.lend_assembly().expect("the frame is incomplete");
    let mut out = Vec::new();
    connection.fail(
        &mut endpoint,
        CloseCode::POLICY_VIOLATION,
        Cause::SlowConsumer,
        &mut out,
        NOW,
    );
    buffer.extend_from_slice(&message[308..]);
    connection.receive_assembly(buffer, NOW);
    assert!(!connection.is_unread());
    assert_eq!(receive(&mut endpoint, &mut connection, &[]), []);
    // The pool does not give the buffer to another connection.
    let mut other = Connection::new(NOW, 0);
    assert_eq!(receive(&mut endpoint, &mut other, &message[..308]), []);
    assert_eq!(fill(&mut other, &message[308..]), 700);
    let events = receive(&mut endpoint, &mut other, &[]);
    assert_eq!(events, [Observed::Binary(vec![7; 1000])]);
}

#[test]
fn a_client_receives_into_the_lent_buffer() {
    let config = tidewheel_codec::Config::new(Role::Client);
    let bytes = [unmasked(0x82, &[7; 1000]), unmasked(0x81, b"short")].concat();
    let whole = receive_pieces(&config, [bytes.as_slice()]);
    for size in 1..100 {
        assert_eq!(
            receive_lent(&config, &bytes, &vec![size; bytes.len()]),
            whole
        );
    }
}

#[test]
fn bytes_in_the_lent_buffer_restart_the_ping_interval() {
    let message = masked(0x82, &[7; 1000]);
    let mut endpoint = Endpoint::with_seed(server(), SEED).unwrap();
    let mut connection = connect(&endpoint, NOW);
    receive(&mut endpoint, &mut connection, &message[..308]);
    let before = connection.poll_timeout(endpoint.config());
    for (received, moves) in [(0, false), (10, true)] {
        let mut buffer = connection.lend_assembly().expect("the frame is incomplete");
        buffer.extend_from_slice(&message[308..308 + received]);
        connection.receive_assembly(buffer, Time::from_millis(5000));
        let after = connection.poll_timeout(endpoint.config());
        assert_eq!(after != before, moves);
        receive_nothing(&mut endpoint, &mut connection);
    }
}

#[test]
#[should_panic(expected = "301 bytes were received, and 300 are left of the frame")]
fn bytes_beyond_the_frame_in_a_lent_buffer_panic() {
    let message = masked(0x82, &[7; 600]);
    let (_, mut connection, _) = after(&message[..308]);
    let mut buffer = connection.lend_assembly().expect("the frame is incomplete");
    buffer.extend_from_slice(&[0; 301]);
    connection.receive_assembly(buffer, NOW);
}

#[test]
#[should_panic(expected = "701 bytes were received, and 700 are left of the frame")]
fn bytes_beyond_the_frame_after_our_close_panic() {
    let message = masked(0x82, &[7; 1000]);
    let (mut endpoint, mut connection, _) = after(&message[..308]);
    close(&mut endpoint, &mut connection);
    connection.receive_assembly([0; 701].as_slice().into(), NOW);
}

#[test]
#[should_panic(expected = "not read yet")]
fn taking_a_second_buffer_back_panics() {
    let message = masked(0x82, &[7; 1000]);
    let (_, mut connection, _) = after(&message[..308]);
    assert_eq!(fill(&mut connection, &message[308..400]), 92);
    connection.receive_assembly([0; 1].as_slice().into(), NOW);
}

#[test]
fn text_is_validated_in_a_buffer_that_was_not_lent() {
    let message = masked(0x81, &[b'a'; 1000]);
    // The buffer of another message, whose bytes are not text.
    let (_, mut binary, _) = after(&masked(0x82, &[0xff; 5000])[..1000]);
    let other = binary.lend_assembly().expect("the frame is incomplete");
    for mut given in [other, bytes::BytesMut::new()] {
        let (mut endpoint, mut connection, _) = after(&message[..308]);
        let mut lent = connection.lend_assembly().expect("the frame is incomplete");
        // It does not expose the received bytes.
        assert!(lent.is_empty());
        lent.resize(lent.capacity(), 0xff);
        given.extend_from_slice(&message[308..]);
        connection.receive_assembly(given, NOW);
        let events = receive(&mut endpoint, &mut connection, &[]);
        assert_eq!(events, [text(&"a".repeat(1000))]);
    }
}

fn receive_nothing(endpoint: &mut Endpoint, connection: &mut Connection) {
    let (mut nothing, mut out) = ([], Vec::new());
    let mut input = connection.receive(&mut nothing, Time::from_millis(5000));
    assert!(
        connection
            .poll_event(endpoint, &mut input, &mut out)
            .is_none()
    );
}
