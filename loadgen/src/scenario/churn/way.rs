//! The ways in which a connection of the churn ends.

use fastrand::Rng;
use tidewheel_codec::CloseCode;

use crate::{figures::Unit, fleet::request_head, trial::Trial};

/// How a connection ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Way {
    /// By the closing handshake.
    Close,
    /// By RST.
    Reset,
    /// By FIN without Close.
    Fin,
    /// In the middle of a frame, by RST.
    MidFrameReset,
    /// In the middle of a frame, by FIN.
    MidFrameFin,
    /// By the server, since nothing is answered.
    Silent,
    /// By the server, since a rule was broken.
    BadFrame,
    /// By RST, after much to echo of which nothing was read.
    Slow,
    /// By RST, long after a Close that was not followed by FIN.
    NoFin,
    /// Before the request: by RST.
    BareReset,
    /// In the middle of the request: by FIN.
    BareFin,
    /// In the middle of the request: by the server's timeout.
    BareSilent,
    /// By the server, since what came was no request.
    BareJunk,
}

/// Each way, its name in the report, and how many of a hundred take it.
const WAYS: [(Way, &str, u32); 13] = [
    (Way::Close, "churn.close", 26),
    (Way::Reset, "churn.reset", 14),
    (Way::Fin, "churn.fin", 9),
    (Way::MidFrameReset, "churn.mid_frame_reset", 5),
    (Way::MidFrameFin, "churn.mid_frame_fin", 5),
    (Way::Silent, "churn.silent", 3),
    (Way::BadFrame, "churn.bad_frame", 15),
    (Way::Slow, "churn.slow", 2),
    (Way::NoFin, "churn.no_fin", 2),
    (Way::BareReset, "churn.handshake_reset", 5),
    (Way::BareFin, "churn.handshake_fin", 5),
    (Way::BareSilent, "churn.handshake_silent", 2),
    (Way::BareJunk, "churn.handshake_junk", 7),
];

/// The figures that count them.
pub(super) const WAY_NAMES: [(&str, Unit); WAYS.len()] = {
    let mut names = [("", Unit::Count); WAYS.len()];
    let mut index = 0;
    while index < WAYS.len() {
        names[index].0 = WAYS[index].1;
        index += 1;
    }
    names
};

const _: () = {
    let (mut sum, mut index) = (0, 0);
    while index < WAYS.len() {
        sum += WAYS[index].2;
        index += 1;
    }
    assert!(sum == 100, "shares are of a hundred");
};

/// A frame that breaks a rule, and the code of the Close that answers it. A masking key of zeros
/// leaves the payload as it is.
const BAD_FRAMES: [(&[u8], CloseCode); 9] = [
    // RFC 6455 5.1: "a server MUST close the connection upon receiving a frame that is not masked"
    (b"\x81\x05hello", CloseCode::PROTOCOL_ERROR),
    // 5.2: reserved opcode, reserved bit
    (b"\x83\x80\0\0\0\0", CloseCode::PROTOCOL_ERROR),
    (b"\xa1\x80\0\0\0\0", CloseCode::PROTOCOL_ERROR),
    // 5.4: continuation of nothing
    (b"\x80\x80\0\0\0\0", CloseCode::PROTOCOL_ERROR),
    // 5.5: fragmented control frame, and one of more than 125 bytes
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

/// A message of 2^40 bytes: more than any server takes.
const TOO_BIG: (&[u8], CloseCode) = (
    b"\x82\xff\0\0\x01\0\0\0\0\0\0\0\0\0",
    CloseCode::MESSAGE_TOO_BIG,
);

/// The start of a frame of 100 bytes.
pub(super) const HALF_A_FRAME: &[u8] = b"\x82\xe4\0\0\0\0half";

/// What is no request: the start of a TLS handshake, and a method that has no end.
const JUNK: [&[u8]; 2] = [
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n",
    b"BREW /pot HTCPCP/1.0\r\n\r\n",
];

/// Codes that a client may send.
const CODES: [u16; 9] = [1000, 1001, 1002, 1003, 1007, 1011, 3000, 4000, 4999];

/// Chooses.
#[derive(Debug)]
pub(super) struct Ways {
    rng: Rng,
    request: Vec<u8>,
    /// Whether the largest message that the server takes is known.
    knows_limit: bool,
}

impl Ways {
    /// Ways that follow from the trial's seed.
    pub(super) fn of(trial: &Trial, is_foreign: bool) -> Self {
        Self {
            rng: Rng::with_seed(trial.seed),
            request: request_head(trial.target),
            knows_limit: !is_foreign,
        }
    }

    /// The next way, by its index.
    pub(super) fn choose(&mut self) -> Way {
        let mut ticket = self.rng.u32(..100);
        for (way, _, share) in WAYS {
            if ticket < share {
                return way;
            }
            ticket -= share;
        }
        unreachable!("shares are of a hundred")
    }

    pub(super) fn code(&mut self) -> CloseCode {
        CloseCode(CODES[self.rng.usize(..CODES.len())])
    }

    pub(super) fn bad_frame(&mut self) -> (&'static [u8], CloseCode) {
        let last = BAD_FRAMES.len() + usize::from(self.knows_limit);
        match self.rng.usize(..last) {
            index if index < BAD_FRAMES.len() => BAD_FRAMES[index],
            _ => TOO_BIG,
        }
    }

    /// The start of a request, of random length, perhaps nothing.
    pub(super) fn part_of_request(&mut self) -> &[u8] {
        let length = self.rng.usize(..self.request.len());
        &self.request[..length]
    }

    pub(super) fn junk(&mut self) -> &'static [u8] {
        JUNK[self.rng.usize(..JUNK.len())]
    }

    /// The sizes of the messages that are sent before the end.
    pub(super) fn messages(&mut self) -> Vec<usize> {
        let count = self.rng.usize(..5);
        (0..count).map(|_| self.rng.usize(..3000)).collect()
    }
}

impl Way {
    /// Its place among the names.
    pub(super) fn index(self) -> usize {
        WAYS.iter()
            .position(|(way, _, _)| *way == self)
            .expect("each way is listed")
    }

    /// Whether no valid request is sent.
    pub(super) const fn is_bare(self) -> bool {
        match self {
            Self::BareReset | Self::BareFin | Self::BareSilent | Self::BareJunk => true,
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

/// How many ways there are.
pub(super) const COUNT: usize = WAYS.len();

/// The name of each way in the report, in order.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    WAYS.iter().map(|(_, name, _)| *name)
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
    fn half_a_frame_is_neither_whole_nor_wrong() {
        let mut endpoint = Endpoint::new(Config::new(Role::Server)).unwrap();
        let now = Time::from_millis(0);
        let mut connection = Connection::new(now, 0);
        let (mut bytes, mut out) = (HALF_A_FRAME.to_vec(), Vec::new());
        let mut input = connection.receive(&mut bytes, now);
        assert!(
            connection
                .poll_event(&mut endpoint, &mut input, &mut out)
                .is_none()
        );
        assert!(connection.is_open());
    }

    #[test]
    fn names_are_unique_and_indices_are_places() {
        let names: BTreeSet<_> = names().collect();
        assert_eq!(names.len(), COUNT);
        for (place, (way, _, _)) in WAYS.into_iter().enumerate() {
            assert_eq!(way.index(), place);
        }
    }

    #[test]
    fn codes_may_be_sent() {
        assert!(CODES.iter().all(|&code| CloseCode(code).is_sendable()));
    }
}
