//! Conversion of a received message to a frame, without a copy of its payload.

mod common;

use common::{SEED, client, connect, masked, server, unmasked};
use tidewheel_codec::deflate::Deflate;
use tidewheel_codec::frame::{Opcode, encode_frame};
use tidewheel_codec::{Config, Connection, Endpoint, Event, Message, Reply, Time};

const SIZES: [usize; 9] = [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, 200_000];

/// Receives one message in pieces of `size`, and returns the result of `reply`.
fn receive<T>(config: &Config, bytes: &[u8], size: usize, reply: impl Fn(Message<'_>) -> T) -> T {
    let mut endpoint = Endpoint::with_seed(config.clone(), SEED).unwrap();
    let mut connection = connect(&endpoint, Time::from_millis(0));
    let mut out = Vec::new();
    for piece in bytes.chunks(size) {
        let mut buffer = piece.to_vec();
        let mut input = connection.receive(&mut buffer, Time::from_millis(1));
        while let Some(event) = connection.poll_event(&mut endpoint, &mut input, &mut out) {
            if let Event::Message(message) = event {
                return reply(message);
            }
        }
    }
    panic!("no message in {} bytes", bytes.len());
}

#[test]
fn a_message_in_one_buffer_becomes_a_frame_in_place() {
    for size in SIZES {
        let payload: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let expected = encode_frame(Opcode::Binary, &payload);
        for (config, bytes) in [
            (server(), masked(0x82, &payload)),
            (client(), unmasked(0x82, &payload)),
        ] {
            receive(&config, &bytes, bytes.len(), |message| {
                let place = message.payload().as_ptr();
                let Reply::Borrowed(frame) = message.into_frame() else {
                    panic!("the message lies in the receive buffer");
                };
                assert_eq!(*frame, expected[..], "{size} bytes");
                assert_eq!(
                    frame[frame.len() - size..].as_ptr(),
                    place,
                    "the payload did not move"
                );
            });
        }
    }
}

#[test]
fn a_message_that_spans_buffers_becomes_an_owned_frame() {
    for size in SIZES.into_iter().filter(|&size| size > 0) {
        let text = "x".repeat(size);
        let expected = encode_frame(Opcode::Text, text.as_bytes());
        let bytes = masked(0x81, text.as_bytes());
        let frame = receive(&server(), &bytes, bytes.len() - 1, |message| {
            let place = message.payload().as_ptr();
            let Reply::Owned(frame) = message.into_frame() else {
                panic!("the message lies in a pooled buffer");
            };
            assert_eq!(
                frame[frame.len() - size..].as_ptr(),
                place,
                "the payload did not move"
            );
            frame
        });
        assert_eq!(frame, expected, "{size} bytes");
    }
}

#[test]
fn a_kept_frame_is_not_overwritten() {
    let mut endpoint = Endpoint::with_seed(server(), SEED).unwrap();
    let mut connection = Connection::new(Time::from_millis(0), 0);
    let (mut out, mut kept) = (Vec::new(), Vec::new());
    for i in 0..100_u8 {
        for piece in masked(0x82, &[i; 1000]).chunks(600) {
            let mut buffer = piece.to_vec();
            let mut input = connection.receive(&mut buffer, Time::from_millis(1));
            if let Some(Event::Message(message)) =
                connection.poll_event(&mut endpoint, &mut input, &mut out)
            {
                let Reply::Owned(frame) = message.into_frame() else {
                    panic!("the message lies in a pooled buffer");
                };
                kept.push(frame);
            }
        }
    }
    assert_eq!(kept.len(), 100);
    for (i, frame) in kept.iter().enumerate() {
        assert_eq!(*frame, encode_frame(Opcode::Binary, &[i as u8; 1000]));
    }
}

#[test]
fn a_compressed_message_becomes_an_uncompressed_frame() {
    let mut config = server();
    config.deflate = Some(Deflate::default());
    let bytes = masked(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00");
    let frame = receive(&config, &bytes, bytes.len(), |message| {
        message.into_frame().as_ref().to_vec()
    });
    assert_eq!(frame, b"\x81\x05Hello");
}

#[test]
fn connections_and_endpoints_are_send() {
    fn assert_send<T: Send>() {}
    assert_send::<Connection>();
    assert_send::<Endpoint>();
}
