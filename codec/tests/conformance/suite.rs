use tidewheel_codec::deflate::Deflate;
use tidewheel_codec::{Cause, CloseCode, Config, Role, Transmit};

use crate::common::{Observed, Trace, client, masked, receive, receive_pieces, server, unmasked};

/// Largest case in bytes that is run at every split.
const EVERY_SPLIT_BYTES_MAX: usize = 300;

/// The first byte and the unmasked payload of a frame.
pub(crate) type Frame = (u8, Vec<u8>);

/// The end of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// The connection stays open.
    Open,
    /// The peer's Close was answered with its code, or without a code for 1005.
    Closed(u16),
    /// We failed the connection with this code.
    Failed(u16),
}

/// Received frames and their expected events and end.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) number: String,
    pub(crate) name: String,
    frames: Vec<Frame>,
    events: Vec<Observed>,
    ends: Ends,
    deflate: Option<Deflate>,
    limits: Option<(usize, u32)>,
}

impl Case {
    pub(crate) fn new(
        number: impl Into<String>,
        name: impl Into<String>,
        frames: impl Into<Vec<Frame>>,
        events: impl Into<Vec<Observed>>,
        ends: Ends,
    ) -> Self {
        Self {
            number: number.into(),
            name: name.into(),
            frames: frames.into(),
            events: events.into(),
            ends,
            deflate: None,
            limits: None,
        }
    }

    /// Enables permessage-deflate.
    pub(crate) fn with_deflate(mut self, deflate: Deflate) -> Self {
        self.deflate = Some(deflate);
        self
    }

    /// Sets the limits on the bytes and fragments of a message.
    pub(crate) fn with_limits(mut self, message_size: usize, fragments: u32) -> Self {
        self.limits = Some((message_size, fragments));
        self
    }

    /// Runs the case in both roles.
    pub(crate) fn run(&self) {
        for mut config in [server(), client()] {
            config.deflate = self.deflate.clone();
            if let Some((message_size, fragments)) = self.limits {
                (config.max_message_size, config.max_fragments) = (message_size, fragments);
            }
            let encode = match config.role {
                Role::Server => masked,
                Role::Client => unmasked,
            };
            let bytes: Vec<u8> = self
                .frames
                .iter()
                .flat_map(|(first, payload)| encode(*first, payload))
                .collect();
            let trace = run_in_pieces(&config, &bytes);
            let title = format!("{} {}, {:?}", self.number, self.name, config.role);
            assert_eq!(trace.events, self.events, "{title}");
            self.assert_ends(&trace, &config, &title);
        }
    }

    fn assert_ends(&self, trace: &Trace, config: &Config, title: &str) {
        let Some(disconnect) = &trace.disconnect else {
            assert_eq!(self.ends, Ends::Open, "{title}");
            return;
        };
        let sent = trace.sent_code().expect("a Close was sent");
        let transmit = match (self.ends, config.role) {
            (Ends::Closed(_), Role::Client) => Transmit::Nothing,
            (Ends::Closed(_) | Ends::Failed(_) | Ends::Open, Role::Server | Role::Client) => {
                Transmit::Finish
            }
        };
        assert_eq!(trace.transmit, transmit, "{title}");
        let ends = match disconnect.cause {
            Cause::PeerClose => Ends::Closed(sent.0),
            Cause::ProtocolError(_) | Cause::TooBig => Ends::Failed(sent.0),
            cause => panic!("{title}: the cause is {cause:?}"),
        };
        assert_eq!(ends, self.ends, "{title}: {disconnect:?}");
        if matches!(self.ends, Ends::Closed(_)) {
            assert_eq!(disconnect.code(), CloseCode(sent.0), "{title}");
        }
    }
}

/// Runs a case at every split, or in pieces of some sizes if it is large.
fn run_in_pieces(config: &Config, bytes: &[u8]) -> Trace {
    if bytes.len() <= EVERY_SPLIT_BYTES_MAX {
        return receive(config, bytes);
    }
    let whole = receive_pieces(config, [bytes]);
    for size in [1, 7, 1000, 1024, 16 << 10] {
        assert_eq!(
            receive_pieces(config, bytes.chunks(size)),
            whole,
            "in pieces of {size}"
        );
    }
    whole
}

pub(crate) fn bytes(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

/// Returns `payload` in fragments of `size` bytes. The last one may be shorter.
pub(crate) fn fragments(opcode: u8, payload: &[u8], size: usize) -> Vec<Frame> {
    let mut frames: Vec<Frame> = payload
        .chunks(size)
        .map(|piece| (0x00, piece.to_vec()))
        .collect();
    frames.first_mut().expect("the payload has some bytes").0 = opcode;
    frames.last_mut().expect("the payload has some bytes").0 |= 0x80;
    frames
}
