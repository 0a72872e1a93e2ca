//! Endings of connections of churn.

use fastrand::Rng;
use tidewheel_codec::CloseCode;

use crate::{fleet::request::request_head, measure::figures::Unit, run::Run};

/// The way in which a connection ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ending {
    /// Closing handshake.
    Close,
    /// RST.
    Reset,
    /// FIN without Close.
    Fin,
    /// RST in the middle of a frame.
    MidFrameReset,
    /// FIN in the middle of a frame.
    MidFrameFin,
    /// Silence, until the server ends the connection.
    Silent,
    /// Invalid frame, because of which the server fails the connection.
    BadFrame,
    /// RST after messages whose echo was not read.
    Slow,
    /// RST long after a Close without FIN.
    NoFin,
    /// RST in the middle of the request.
    HandshakeReset,
    /// FIN in the middle of the request.
    HandshakeFin,
    /// Silence in the middle of the request, until the server's timeout.
    HandshakeSilent,
    /// Invalid request, because of which the server ends the connection.
    InvalidRequest,
}

/// All endings: name of the figure, and share in percent.
const ENDINGS: [(Ending, &str, u32); 13] = [
    (Ending::Close, "churn.close", 26),
    (Ending::Reset, "churn.reset", 14),
    (Ending::Fin, "churn.fin", 9),
    (Ending::MidFrameReset, "churn.mid_frame_reset", 5),
    (Ending::MidFrameFin, "churn.mid_frame_fin", 5),
    (Ending::Silent, "churn.silent", 3),
    (Ending::BadFrame, "churn.bad_frame", 15),
    (Ending::Slow, "churn.slow", 2),
    (Ending::NoFin, "churn.no_fin", 2),
    (Ending::HandshakeReset, "churn.handshake_reset", 5),
    (Ending::HandshakeFin, "churn.handshake_fin", 5),
    (Ending::HandshakeSilent, "churn.handshake_silent", 2),
    (Ending::InvalidRequest, "churn.handshake_junk", 7),
];

/// Figures of the endings.
pub(super) const ENDING_NAMES: [(&str, Unit); ENDINGS.len()] = {
    let mut names = [("", Unit::Count); ENDINGS.len()];
    let mut index = 0;
    while index < ENDINGS.len() {
        names[index].0 = ENDINGS[index].1;
        index += 1;
    }
    names
};

const _: () = {
    let (mut sum, mut index) = (0, 0);
    while index < ENDINGS.len() {
        sum += ENDINGS[index].2;
        index += 1;
    }
    assert!(sum == 100, "the sum of all shares is 100 percent");
};

/// Frames that violate a rule, with the close code of the answer. A masking key of zeros leaves the
/// payload unchanged.
const BAD_FRAMES: [(&[u8], CloseCode); 9] = [
    // RFC 6455 5.1: "a server MUST close the connection upon receiving a frame that is not masked"
    (b"\x81\x05hello", CloseCode::PROTOCOL_ERROR),
    // 5.2: reserved opcode, reserved bit
    (b"\x83\x80\0\0\0\0", CloseCode::PROTOCOL_ERROR),
    (b"\xa1\x80\0\0\0\0", CloseCode::PROTOCOL_ERROR),
    // 5.4: continuation frame without a message
    (b"\x80\x80\0\0\0\0", CloseCode::PROTOCOL_ERROR),
    // 5.5: fragmented control frame, and control frame of more than 125 bytes
    (b"\x09\x80\0\0\0\0", CloseCode::PROTOCOL_ERROR),
    (b"\x89\xfe\0\x7e\0\0\0\0", CloseCode::PROTOCOL_ERROR),
    // 5.5.1: Close of one byte; 7.4.1: a code that must not be sent
    (b"\x88\x81\0\0\0\0\x03", CloseCode::PROTOCOL_ERROR),
    (b"\x88\x82\0\0\0\0\x03\xed", CloseCode::PROTOCOL_ERROR),
    // 8.1: text that is not UTF-8
    (
        b"\x81\x81\0\0\0\0\xff",
        CloseCode::INVALID_FRAME_PAYLOAD_DATA,
    ),
];

/// A message of 2^40 bytes, which is too big for any server.
const TOO_BIG: (&[u8], CloseCode) = (
    b"\x82\xff\0\0\x01\0\0\0\0\0\0\0\0\0",
    CloseCode::MESSAGE_TOO_BIG,
);

/// The start of a frame of 100 bytes.
pub(super) const PARTIAL_FRAME: &[u8] = b"\x82\xe4\0\0\0\0half";

/// Invalid requests: the start of a TLS handshake, and another protocol.
const INVALID_REQUESTS: [&[u8]; 2] = [
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n",
    b"BREW /pot HTCPCP/1.0\r\n\r\n",
];

/// Close codes that a client may send.
const CLOSE_CODES: [u16; 9] = [1000, 1001, 1002, 1003, 1007, 1011, 3000, 4000, 4999];

/// Chooses endings and their details at random.
#[derive(Debug)]
pub(super) struct EndingGenerator {
    rng: Rng,
    request: Vec<u8>,
    /// Whether the server is known to limit the size of messages.
    has_message_limit: bool,
}

impl EndingGenerator {
    /// Creates a generator with the seed of the run.
    pub(super) fn new(run: &Run, url_is_given: bool) -> Self {
        Self {
            rng: Rng::with_seed(run.seed),
            request: request_head(run.target),
            has_message_limit: !url_is_given,
        }
    }

    /// Returns the next ending.
    pub(super) fn choose(&mut self) -> Ending {
        let mut ticket = self.rng.u32(..100);
        for (ending, _, share) in ENDINGS {
            if ticket < share {
                return ending;
            }
            ticket -= share;
        }
        unreachable!("the sum of all shares is 100 percent")
    }

    /// Returns a close code that may be sent.
    pub(super) fn close_code(&mut self) -> CloseCode {
        CloseCode(CLOSE_CODES[self.rng.usize(..CLOSE_CODES.len())])
    }

    /// Returns an invalid frame, and the close code of the answer.
    pub(super) fn bad_frame(&mut self) -> (&'static [u8], CloseCode) {
        let last = BAD_FRAMES.len() + usize::from(self.has_message_limit);
        match self.rng.usize(..last) {
            index if index < BAD_FRAMES.len() => BAD_FRAMES[index],
            _ => TOO_BIG,
        }
    }

    /// Returns the start of a request, of a random length that may be 0.
    pub(super) fn partial_request(&mut self) -> &[u8] {
        let length = self.rng.usize(..self.request.len());
        &self.request[..length]
    }

    /// Returns an invalid request.
    pub(super) fn invalid_request(&mut self) -> &'static [u8] {
        INVALID_REQUESTS[self.rng.usize(..INVALID_REQUESTS.len())]
    }

    /// Returns the sizes in bytes of the messages before the ending.
    pub(super) fn message_sizes(&mut self) -> Vec<usize> {
        let count = self.rng.usize(..5);
        (0..count).map(|_| self.rng.usize(..3000)).collect()
    }
}

impl Ending {
    /// Returns its position in the list of endings.
    pub(super) fn index(self) -> usize {
        ENDINGS
            .iter()
            .position(|(ending, _, _)| *ending == self)
            .expect("each ending is listed")
    }

    /// Returns whether no complete and valid request is sent.
    pub(super) const fn has_no_handshake(self) -> bool {
        match self {
            Self::HandshakeReset
            | Self::HandshakeFin
            | Self::HandshakeSilent
            | Self::InvalidRequest => true,
            Self::Close
            | Self::Reset
            | Self::Fin
            | Self::MidFrameReset
            | Self::MidFrameFin
            | Self::Silent
            | Self::BadFrame
            | Self::Slow
            | Self::NoFin => false,
        }
    }
}

/// Number of endings.
pub(super) const COUNT: usize = ENDINGS.len();

/// Returns the names of the figures of all endings, in order.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ENDINGS.iter().map(|(_, name, _)| *name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tidewheel_codec::{Config, Connection, Endpoint, Role, Time};

    use super::*;

    #[test]
    fn each_bad_frame_is_answered_by_its_code() {
        for (bytes, code) in BAD_FRAMES.into_iter().chain([TOO_BIG]) {
            let mut endpoint = Endpoint::new(Config::new(Role::Server)).unwrap();
            let now = Time::from_millis(0);
            let mut connection = Connection::new(now, 0);
            let (mut bytes, mut out) = (bytes.to_vec(), Vec::new());
            let mut input = connection.receive(&mut bytes, now);
            while connection
                .poll_event(&mut endpoint, &mut input, &mut out)
                .is_some()
            {}
            let end = connection.poll_disconnect().unwrap();
            assert_eq!(end.sent.unwrap().code, code, "{bytes:x?}");
        }
    }

    #[test]
    fn the_partial_frame_is_incomplete_and_valid() {
        let mut endpoint = Endpoint::new(Config::new(Role::Server)).unwrap();
        let now = Time::from_millis(0);
        let mut connection = Connection::new(now, 0);
        let (mut bytes, mut out) = (PARTIAL_FRAME.to_vec(), Vec::new());
        let mut input = connection.receive(&mut bytes, now);
        assert!(
            connection
                .poll_event(&mut endpoint, &mut input, &mut out)
                .is_none()
        );
        assert!(connection.is_open());
    }

    #[test]
    fn names_are_unique_and_indices_are_positions() {
        let names: BTreeSet<_> = names().collect();
        assert_eq!(names.len(), COUNT);
        for (place, (ending, _, _)) in ENDINGS.into_iter().enumerate() {
            assert_eq!(ending.index(), place);
        }
    }

    #[test]
    fn close_codes_may_be_sent() {
        assert!(
            CLOSE_CODES
                .iter()
                .all(|&code| CloseCode(code).is_sendable())
        );
    }
}
