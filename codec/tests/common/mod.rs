//! A connection that receives literal bytes, in one piece and in several.
#![allow(dead_code, reason = "each test file uses a part")]

use tidewheel_codec::deflate::Deflate;
use tidewheel_codec::{
    CloseCode, Config, Connection, Disconnect, Endpoint, Event, Message, Role, Time, Transmit,
};

pub(crate) const SEED: u64 = 0x7164_6577;

/// An owned copy of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Observed {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

impl From<Event<'_>> for Observed {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Message(message) => Self::from(message),
            Event::Ping(payload) => Self::Ping(payload.into_owned()),
            Event::Pong(payload) => Self::Pong(payload.into_owned()),
        }
    }
}

impl From<Message<'_>> for Observed {
    fn from(message: Message<'_>) -> Self {
        match message.as_text() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Binary(message.payload().to_vec()),
        }
    }
}

pub(crate) fn text(text: &str) -> Observed {
    Observed::Text(text.to_owned())
}

pub(crate) fn binary(bytes: &[u8]) -> Observed {
    Observed::Binary(bytes.to_vec())
}

/// The observable behaviour of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) events: Vec<Observed>,
    pub(crate) out: Vec<u8>,
    pub(crate) disconnect: Option<Disconnect>,
    pub(crate) transmit: Transmit,
}

impl Trace {
    /// Returns the events of a connection that has not ended.
    pub(crate) fn open_events(&self) -> &[Observed] {
        assert_eq!(self.disconnect, None);
        &self.events
    }

    /// Returns the code of the Close frame that we sent.
    pub(crate) fn sent_code(&self) -> Option<CloseCode> {
        self.disconnect
            .as_ref()?
            .sent
            .as_ref()
            .map(|close| close.code)
    }

    /// Returns the reason of the Close frame that we sent.
    pub(crate) fn sent_reason(&self) -> &str {
        self.disconnect
            .as_ref()
            .and_then(|disconnect| disconnect.sent.as_ref())
            .map_or("", |close| &close.reason)
    }
}

pub(crate) fn server() -> Config {
    Config::new(Role::Server)
}

pub(crate) fn client() -> Config {
    Config::new(Role::Client)
}

/// Enables compression of all messages.
pub(crate) fn with_deflate(mut config: Config) -> Config {
    let mut deflate = Deflate::default();
    deflate.threshold = 0;
    config.deflate = Some(deflate);
    config
}

/// Enables compression of all messages, with context takeover.
pub(crate) fn with_takeover(config: Config) -> Config {
    let mut config = with_deflate(config);
    config.deflate.as_mut().unwrap().context_takeover = true;
    config
}

pub(crate) fn endpoint(config: &Config) -> Endpoint {
    Endpoint::with_seed(config.clone(), SEED).unwrap()
}

/// Returns a connection with the compression to which two endpoints like this one agree.
pub(crate) fn connect(endpoint: &Endpoint, now: Time) -> Connection {
    let connection = Connection::new(now, 0);
    let Some(offer) = endpoint.offer_deflate() else {
        return connection;
    };
    let agreement = match endpoint.config().role {
        Role::Server => endpoint.accept_deflate([offer.as_str()]),
        Role::Client => {
            let accepted = offer.replace("; client_max_window_bits", "");
            endpoint.confirm_deflate([accepted.as_str()]).unwrap()
        }
    };
    connection.with_deflate(agreement.expect("an endpoint agrees with itself"))
}

/// Receives each of `pieces` in a separate buffer.
pub(crate) fn receive_pieces<'p>(
    config: &Config,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> Trace {
    let mut endpoint = endpoint(config);
    let now = Time::from_millis(1);
    let mut connection = connect(&endpoint, now);
    receive_on(&mut connection, &mut endpoint, pieces)
}

/// Receives each of `pieces` in a separate buffer, on an existing connection.
pub(crate) fn receive_on<'p>(
    connection: &mut Connection,
    endpoint: &mut Endpoint,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> Trace {
    let now = Time::from_millis(1);
    let (mut events, mut out) = (Vec::new(), Vec::new());
    for piece in pieces {
        let mut buffer = piece.to_vec();
        let mut input = connection.receive(&mut buffer, now);
        while let Some(event) = connection.poll_event(endpoint, &mut input, &mut out) {
            events.push(Observed::from(event));
        }
    }
    let disconnect = connection.poll_disconnect();
    assert_eq!(connection.poll_disconnect(), None, "a connection ends once");
    Trace {
        events,
        out,
        disconnect,
        transmit: connection.poll_transmit(),
    }
}

/// Receives `bytes` in one buffer, and reads at most `frames_max` frames at a time.
pub(crate) fn receive_shares(config: &Config, bytes: &[u8], frames_max: u32) -> Trace {
    let mut endpoint = endpoint(config);
    let now = Time::from_millis(1);
    let mut connection = connect(&endpoint, now);
    let (mut events, mut out) = (Vec::new(), Vec::new());
    let mut rest = bytes.to_vec();
    loop {
        let input = connection.receive(&mut rest, now);
        let mut input = input.with_frames_max(frames_max);
        let mut count = 0;
        while let Some(event) = connection.poll_event(&mut endpoint, &mut input, &mut out) {
            events.push(Observed::from(event));
            count += 1;
        }
        assert!(count <= frames_max, "{count} of {frames_max}");
        let is_used_up = input.frames_left() == 0;
        let left = input.into_rest().len();
        if !is_used_up {
            break;
        }
        rest.drain(..rest.len() - left);
    }
    let disconnect = connection.poll_disconnect();
    Trace {
        events,
        out,
        disconnect,
        transmit: connection.poll_transmit(),
    }
}

/// Receives `bytes` in pieces of `sizes`, and the rest in one piece: into the lent buffer of a message where
/// possible, else into receive buffers.
pub(crate) fn receive_lent(config: &Config, bytes: &[u8], sizes: &[usize]) -> Trace {
    let mut endpoint = endpoint(config);
    let now = Time::from_millis(1);
    let mut connection = connect(&endpoint, now);
    let (mut events, mut out) = (Vec::new(), Vec::new());
    let mut sizes = sizes.iter().copied();
    let mut rest = bytes;
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(rest.len()).min(rest.len());
        let mut piece = Vec::new();
        if let Some(mut buffer) = connection.lend_assembly() {
            let room = buffer.capacity() - buffer.len();
            let to_come = usize::try_from(connection.to_come()).unwrap();
            let received = size.min(room).min(to_come);
            assert!(room.min(to_come) > 0, "the lent buffer has room");
            buffer.extend_from_slice(&rest[..received]);
            rest = &rest[received..];
            connection.receive_assembly(buffer, now);
            assert_eq!(connection.is_unread(), received > 0);
        } else {
            piece.extend_from_slice(&rest[..size]);
            rest = &rest[size..];
        }
        let mut input = connection.receive(&mut piece, now);
        while let Some(event) = connection.poll_event(&mut endpoint, &mut input, &mut out) {
            events.push(Observed::from(event));
        }
        assert!(!connection.is_unread());
    }
    let disconnect = connection.poll_disconnect();
    Trace {
        events,
        out,
        disconnect,
        transmit: connection.poll_transmit(),
    }
}

/// Receives `bytes` whole, at every split into two pieces, and byte by byte. Asserts that the behaviour is the same.
pub(crate) fn receive(config: &Config, bytes: &[u8]) -> Trace {
    let whole = receive_pieces(config, [bytes]);
    for split in 1..bytes.len() {
        let (head, tail) = bytes.split_at(split);
        assert_eq!(
            receive_pieces(config, [head, tail]),
            whole,
            "split at {split} of {bytes:02x?}"
        );
    }
    assert_eq!(
        receive_pieces(config, bytes.chunks(1)),
        whole,
        "byte by byte: {bytes:02x?}"
    );
    whole
}

/// Returns a frame with the first byte `first`, masked with a fixed key.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = unmasked(first, payload);
    frame[1] |= 0x80;
    let header_size = frame.len() - payload.len();
    frame.truncate(header_size);
    frame.extend(KEY);
    frame.extend(
        payload
            .iter()
            .zip(KEY.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    frame
}

/// Returns an unmasked frame with the first byte `first`.
pub(crate) fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(len as u8),
        len @ 126..=0xffff => {
            frame.push(126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}
