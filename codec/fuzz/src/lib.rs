//! What each fuzz target asserts of any bytes. The crate's tests run the same functions over the
//! stored corpora and over random bytes.

use tidewheel_codec::deflate::Deflate;
use tidewheel_codec::frame::FrameHeader;
use tidewheel_codec::handshake::{ClientRequest, Limits, Request, Response};
use tidewheel_codec::mask::{key_at, mask as mask_with};
use tidewheel_codec::utf8::{Validator, is_valid};
use tidewheel_codec::{
    Cause, CloseCode, Config, Connection, Disconnect, Endpoint, Event, Role, Time, Transmit,
};

/// Small enough that a fuzzer reaches the limits.
const MESSAGE_SIZE_MAX: usize = 4096;

/// A harness and its name, which is also that of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All harnesses.
pub const TARGETS: [Target; 7] = [
    ("frame", frame),
    ("connection", connection),
    ("pair", pair),
    ("mask", mask),
    ("utf8", utf8),
    ("deflate", deflate),
    ("handshake", handshake),
];

/// What parses encodes to the same bytes, and no prefix of a header parses.
pub fn frame(bytes: &[u8]) {
    let Ok(Some(header)) = FrameHeader::parse(bytes) else {
        return;
    };
    let mut encoded = Vec::new();
    header.encode(&mut encoded);
    assert_eq!(encoded, bytes[..header.size()]);
    for size in 0..header.size() {
        assert_eq!(FrameHeader::parse(&bytes[..size]), Ok(None));
    }
}

/// A connection sees the same in any pieces: the first byte chooses role and extension, the second
/// the number of sizes that follow, and the rest is what is received.
pub fn connection(bytes: &[u8]) {
    let [options, count, rest @ ..] = bytes else {
        return;
    };
    let (sizes, received) = rest.split_at(rest.len().min(usize::from(count % 16)));
    let config = config(
        if options & 1 == 0 {
            Role::Server
        } else {
            Role::Client
        },
        options & 2 != 0,
        options & 4 != 0,
    );
    let whole = receive(&config, received, std::iter::once(received.len()));
    let in_pieces = receive(
        &config,
        received,
        sizes.iter().map(|&size| usize::from(size)),
    );
    assert_eq!(in_pieces, whole);
    let by_bytes = receive(&config, received, std::iter::repeat_n(1, received.len()));
    assert_eq!(by_bytes, whole);
}

/// Two sides, each command a byte: whatever they do, messages arrive whole and in order, and both
/// sides end once, with codes that fit each other.
pub fn pair(bytes: &[u8]) {
    let [options, commands @ ..] = bytes else {
        return;
    };
    let mut sides = [Role::Client, Role::Server]
        .map(|role| Side::new(config(role, options & 2 != 0, options & 4 != 0)));
    let offer = sides[0].endpoint.offer_deflate();
    if let Some(agreement) = sides[1].endpoint.accept_deflate(offer.as_deref()) {
        let accepted = agreement.to_string();
        let confirmed = sides[0]
            .endpoint
            .confirm_deflate([accepted.as_str()])
            .expect("the answer fits");
        let agreements = [confirmed.expect("it was accepted"), agreement];
        for (side, agreement) in sides.iter_mut().zip(agreements) {
            side.connection = Connection::new(Time::from_millis(0), 0).with_deflate(agreement);
        }
    }
    let mut now = Time::from_millis(0);
    for &command in commands {
        let side = usize::from(command & 1);
        let size = usize::from(command >> 4) * 23;
        match (command >> 1) & 7 {
            0 | 1 => sides[side].send_text(size),
            2 => sides[side].send_binary(size),
            3 => {
                let Side {
                    connection,
                    endpoint,
                    out,
                    ..
                } = &mut sides[side];
                // Refused behind the end, which `deliver` would notice if it were not.
                let _ = connection.ping(endpoint, &[command; 15][..size % 16], out);
            }
            4 => sides[side].close(now),
            5 => {
                now = Time::from_millis(now.as_millis() + size as u64 * 50);
                for side in &mut sides {
                    side.connection
                        .handle_timeout(&mut side.endpoint, &mut side.out, now);
                    side.end();
                }
            }
            _ => deliver(&mut sides, side, size, now),
        }
    }
    for _ in 0..4 {
        deliver(&mut sides, 0, usize::MAX, now);
        deliver(&mut sides, 1, usize::MAX, now);
    }
    let is_reset = sides
        .iter()
        .any(|side| side.connection.poll_transmit() == Transmit::Reset);
    if !is_reset {
        assert_eq!(sides[0].disconnect.is_some(), sides[1].disconnect.is_some());
        for (from, to) in [(0, 1), (1, 0)] {
            if sides[to].disconnect.is_none() {
                assert_eq!(sides[to].received, sides[from].sent);
            } else {
                assert!(sides[from].sent.starts_with(&sides[to].received));
            }
        }
    }
}

/// The mask is the exclusive or, at any alignment and key phase.
pub fn mask(bytes: &[u8]) {
    let [a, b, c, d, offset, position, payload @ ..] = bytes else {
        return;
    };
    let (key, position) = ([*a, *b, *c, *d], usize::from(*position));
    let offset = usize::from(*offset % 64).min(payload.len());
    let mut masked = payload.to_vec();
    mask_with(&mut masked[offset..], key_at(key, position));
    let expected: Vec<u8> = payload[offset..]
        .iter()
        .enumerate()
        .map(|(i, byte)| byte ^ key[(position + i) % 4])
        .collect();
    assert_eq!(masked[..offset], payload[..offset]);
    assert_eq!(masked[offset..], expected);
}

/// The streaming validator is `str::from_utf8`, and fails at the first byte that no text could
/// have there. The first byte chooses the size of the pieces.
pub fn utf8(bytes: &[u8]) {
    let [size, text @ ..] = bytes else {
        return;
    };
    let expected = std::str::from_utf8(text);
    let mut validator = Validator::new();
    let mut taken = 0;
    for piece in text.chunks(usize::from(size % 80) + 1) {
        taken += piece.len();
        let so_far = std::str::from_utf8(&text[..taken]);
        let is_hopeless = so_far.is_err_and(|error| error.error_len().is_some());
        assert_eq!(validator.push(piece).is_err(), is_hopeless);
        if is_hopeless {
            return;
        }
    }
    assert_eq!(validator.finish().is_ok(), expected.is_ok());
    assert_eq!(is_valid(text), expected.is_ok());
}

/// As compressed messages, any bytes give a message within the limit or a violation; as a message,
/// they make the round trip.
pub fn deflate(bytes: &[u8]) {
    let [options, rest @ ..] = bytes else {
        return;
    };
    let takeover = options & 4 != 0;
    let frames: Vec<u8> = rest
        .chunks(100)
        .flat_map(|payload| frame_of(0xc2, payload))
        .collect();
    let trace = receive(
        &config(Role::Server, true, takeover),
        &frames,
        std::iter::once(frames.len()),
    );
    assert!(
        trace
            .messages
            .iter()
            .all(|message| message.len() <= MESSAGE_SIZE_MAX)
    );

    let commands: Vec<u8> = std::iter::once(options | 2)
        .chain(rest.iter().copied())
        .collect();
    pair(&commands);
    let mut sender = Side::new(config(Role::Client, true, takeover));
    sender.connection = connect(&sender.endpoint);
    let messages: Vec<&[u8]> = rest.chunks(MESSAGE_SIZE_MAX).collect();
    for message in &messages {
        sender
            .connection
            .send_binary(&mut sender.endpoint, message, &mut sender.out)
            .expect("it is open");
    }
    let size = sender.out.len();
    let trace = receive(
        &config(Role::Server, true, takeover),
        &sender.out,
        std::iter::once(size),
    );
    assert_eq!(trace.messages, messages);
}

/// A prefix of a handshake is incomplete, refused, or says the same as the whole.
pub fn handshake(bytes: &[u8]) {
    let limits = Limits {
        max_bytes: 2048,
        max_headers: 16,
    };
    if let Ok(Some((request, size))) = Request::parse(bytes, &limits) {
        assert!(size <= bytes.len() && size <= limits.max_bytes);
        assert!(request.path().starts_with('/'));
        assert!(request.headers().count() <= limits.max_headers);
        let (again, same_size) = Request::parse(&bytes[..size], &limits).unwrap().unwrap();
        assert_eq!((again.path(), same_size), (request.path(), size));
        assert!(
            Request::parse(&bytes[..size - 1], &limits)
                .unwrap()
                .is_none()
        );
        let mut out = Vec::new();
        request.accept().write(&mut out);
        let _ = request.protocols().chain(request.extensions()).count();
        let server = Endpoint::with_seed(config(Role::Server, true, true), 1).expect("it is valid");
        let _ = server.accept_deflate(request.extensions());
    } else if let Err(rejection) = Request::parse(bytes, &limits) {
        let mut out = Vec::new();
        rejection.write(&mut out);
        assert!(out.starts_with(b"HTTP/1.1 "));
    }
    let request =
        ClientRequest::new("host", "/", *b"the sample nonce").with_extension("permessage-deflate");
    if let Ok(Some((response, size))) = Response::parse(bytes, &limits, &request) {
        assert!(size <= bytes.len());
        let client = Endpoint::with_seed(config(Role::Client, true, true), 1).expect("it is valid");
        let _ = client.confirm_deflate(response.extensions());
    }
}

/// One end of [`pair`].
struct Side {
    endpoint: Endpoint,
    connection: Connection,
    out: Vec<u8>,
    sent: Vec<Vec<u8>>,
    received: Vec<Vec<u8>>,
    disconnect: Option<Disconnect>,
}

impl Side {
    fn new(config: Config) -> Self {
        Self {
            endpoint: Endpoint::with_seed(config, 7).expect("it is valid"),
            connection: Connection::new(Time::from_millis(0), 0),
            out: Vec::new(),
            sent: Vec::new(),
            received: Vec::new(),
            disconnect: None,
        }
    }

    fn send_text(&mut self, size: usize) {
        let text: String = "tide κόσμε ".chars().cycle().take(size).collect();
        let sent = self
            .connection
            .send_text(&mut self.endpoint, &text, &mut self.out);
        assert_eq!(sent.is_ok(), self.connection.is_open());
        if sent.is_ok() {
            self.sent.push(text.into_bytes());
        }
    }

    fn send_binary(&mut self, size: usize) {
        let bytes: Vec<u8> = (0..size).map(|i| (i * i % 251) as u8).collect();
        let sent = self
            .connection
            .send_binary(&mut self.endpoint, &bytes, &mut self.out);
        assert_eq!(sent.is_ok(), self.connection.is_open());
        if sent.is_ok() {
            self.sent.push(bytes);
        }
    }

    fn close(&mut self, now: Time) {
        let Self {
            connection,
            endpoint,
            out,
            ..
        } = self;
        connection
            .start_closing_handshake(
                endpoint,
                CloseCode::NORMAL_CLOSURE,
                "bye",
                Cause::LocalClose,
                out,
                now,
            )
            .expect("the code may be sent and the reason is short");
        self.end();
    }

    fn end(&mut self) {
        if let Some(disconnect) = self.connection.poll_disconnect() {
            assert!(
                !matches!(disconnect.cause, Cause::ProtocolError(_) | Cause::TooBig),
                "{disconnect:?}"
            );
            assert!(
                self.disconnect.replace(disconnect).is_none(),
                "a connection ends once"
            );
        }
    }
}

/// Moves up to `size` bytes from side `from` to the other.
fn deliver(sides: &mut [Side; 2], from: usize, size: usize, now: Time) {
    let size = size.min(sides[from].out.len());
    let mut bytes: Vec<u8> = sides[from].out.drain(..size).collect();
    let to = &mut sides[1 - from];
    let mut input = to.connection.receive(&mut bytes, now);
    while let Some(event) = to
        .connection
        .poll_event(&mut to.endpoint, &mut input, &mut to.out)
    {
        if let Event::Message(message) = event {
            to.received.push(message.payload().to_vec());
        }
    }
    to.end();
}

/// Everything that can be seen of a connection.
#[derive(Debug, PartialEq)]
struct Trace {
    messages: Vec<Vec<u8>>,
    out: Vec<u8>,
    disconnect: Option<Disconnect>,
    transmit: Transmit,
}

fn receive(config: &Config, bytes: &[u8], sizes: impl Iterator<Item = usize>) -> Trace {
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

/// A connection with the terms that the endpoint would agree to with itself.
fn connect(endpoint: &Endpoint) -> Connection {
    let connection = Connection::new(Time::from_millis(0), 0);
    let Some(offer) = endpoint.offer_deflate() else {
        return connection;
    };
    let accepted = offer.replace("; client_max_window_bits", "");
    let agreement = match endpoint.config().role {
        Role::Server => endpoint.accept_deflate([offer.as_str()]),
        Role::Client => endpoint
            .confirm_deflate([accepted.as_str()])
            .expect("the answer fits"),
    };
    connection.with_deflate(agreement.expect("an endpoint agrees with itself"))
}

fn config(role: Role, has_deflate: bool, context_takeover: bool) -> Config {
    let mut config = Config::new(role);
    config.max_message_size = MESSAGE_SIZE_MAX;
    config.max_fragments = 50;
    config.deflate = has_deflate.then(|| Deflate {
        threshold: 0,
        context_takeover,
        ..Deflate::default()
    });
    config
}

/// A client's frame of at most 125 bytes, with a key of zeros.
fn frame_of(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}
