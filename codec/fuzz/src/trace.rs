use tidewheel_codec::{Config, Disconnect, Event, Time, Transmit};

use super::side::{Side, connect};

/// The observable behaviour of a connection.
#[derive(Debug, PartialEq)]
pub(super) struct Trace {
    pub(super) messages: Vec<Vec<u8>>,
    out: Vec<u8>,
    disconnect: Option<Disconnect>,
    transmit: Transmit,
}

/// Receives `bytes` in pieces of `sizes`, and the rest in one piece.
pub(super) fn receive(config: &Config, bytes: &[u8], sizes: impl Iterator<Item = usize>) -> Trace {
    let mut side = Side::new(config.clone());
    side.connection = connect(&side.endpoint);
    let mut rest = bytes;
    let mut take = |size: usize| {
        let (piece, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        piece.to_vec()
    };
    for size in sizes.chain(std::iter::once(usize::MAX)) {
        let mut piece = take(size);
        let Side {
            connection,
            endpoint,
            out,
            received,
            ..
        } = &mut side;
        let mut input = connection.receive(&mut piece, Time::from_millis(1));
        while let Some(event) = connection.poll_event(endpoint, &mut input, out) {
            match event {
                Event::Message(message) => {
                    if let Some(text) = message.as_text() {
                        assert!(std::str::from_utf8(text.as_bytes()).is_ok());
                    }
                    received.push(message.payload().to_vec());
                }
                Event::Ping(payload) | Event::Pong(payload) => assert!(payload.len() <= 125),
            }
        }
    }
    let disconnect = side.connection.poll_disconnect();
    assert!(side.connection.poll_disconnect().is_none());
    let transmit = side.connection.poll_transmit();
    Trace {
        messages: side.received,
        out: side.out,
        disconnect,
        transmit,
    }
}
