//! How each connection of a run ended, and how many ended so.

use std::{collections::BTreeMap, fmt};

use tidewheel_codec::CloseCode;

/// How a connection ended, as its client saw it. Each has exactly one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Outcome {
    /// Close 1000 was sent, Close 1000 was received, then FIN.
    Closed,
    /// The client reset it, as planned.
    Reset,
    /// The client went silent, as planned, and the server ended it.
    LetGo,
    /// No TCP connection came about.
    ConnectFailed,
    /// The server's answer to the opening handshake was wrong, or did not come in time.
    HandshakeFailed,
    /// The first message did not come back as it was sent, or not in time.
    EchoFailed,
    /// The server ended it before it was asked to.
    EndedEarly,
    /// Close was sent, Close with another code was received, then FIN.
    OtherCode,
    /// Close was sent, FIN was received, and no Close before it.
    FinWithoutClose,
    /// Close was sent, and the server reset the connection.
    ResetByServer,
    /// Close was sent, and none was received within the timeout.
    CloseTimedOut,
    /// Close was sent and received, and no FIN followed within the timeout.
    FinTimedOut,
    /// The client went silent, and the server still held the connection at the end of the run.
    StillHeld,
    /// The server broke a rule of the protocol.
    ProtocolError,
    /// The server read so little that the client could not send.
    SendBlocked,
}

/// How the transport of an open connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TransportEnd {
    /// FIN was received.
    Fin,
    /// RST was received, or the connection failed otherwise.
    Reset,
}

impl fmt::Display for TransportEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fin => "FIN",
            Self::Reset => "RST",
        })
    }
}

/// What the client was doing when the transport ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Asked {
    /// Nothing: the connection was to stay open.
    Nothing,
    /// It had sent Close 1000.
    Close,
    /// It had gone silent.
    Silence,
}

impl Outcome {
    /// All of them, those that a scenario asks for first.
    pub(crate) const ALL: [Self; 15] = [
        Self::Closed,
        Self::Reset,
        Self::LetGo,
        Self::ConnectFailed,
        Self::HandshakeFailed,
        Self::EchoFailed,
        Self::EndedEarly,
        Self::OtherCode,
        Self::FinWithoutClose,
        Self::ResetByServer,
        Self::CloseTimedOut,
        Self::FinTimedOut,
        Self::StillHeld,
        Self::ProtocolError,
        Self::SendBlocked,
    ];

    /// The outcome of an open connection whose transport ended, after `received` if the server
    /// sent Close.
    pub(crate) fn of(asked: Asked, received: Option<CloseCode>, end: TransportEnd) -> Self {
        match (asked, end, received) {
            (Asked::Nothing, TransportEnd::Fin | TransportEnd::Reset, _) => Self::EndedEarly,
            (Asked::Silence, TransportEnd::Fin | TransportEnd::Reset, _) => Self::LetGo,
            (Asked::Close, TransportEnd::Reset, _) => Self::ResetByServer,
            (Asked::Close, TransportEnd::Fin, None) => Self::FinWithoutClose,
            (Asked::Close, TransportEnd::Fin, Some(CloseCode::NORMAL_CLOSURE)) => Self::Closed,
            (Asked::Close, TransportEnd::Fin, Some(_)) => Self::OtherCode,
        }
    }

    /// The name in the JSON document.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::LetGo => "let_go",
            Self::ConnectFailed => "connect_failed",
            Self::HandshakeFailed => "handshake_failed",
            Self::EchoFailed => "echo_failed",
            Self::EndedEarly => "ended_early",
            Self::OtherCode => "other_code",
            Self::FinWithoutClose => "fin_without_close",
            Self::ResetByServer => "reset_by_server",
            Self::CloseTimedOut => "close_timed_out",
            Self::FinTimedOut => "fin_timed_out",
            Self::StillHeld => "still_held",
            Self::ProtocolError => "protocol_error",
            Self::SendBlocked => "send_blocked",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Closed => "Close 1000, then FIN",
            Self::Reset => "reset by the client",
            Self::LetGo => "let go by the server",
            Self::ConnectFailed => "connect failed",
            Self::HandshakeFailed => "handshake failed",
            Self::EchoFailed => "echo failed",
            Self::EndedEarly => "ended before it was due",
            Self::OtherCode => "Close with another code",
            Self::FinWithoutClose => "FIN without Close",
            Self::ResetByServer => "reset by the server",
            Self::CloseTimedOut => "timed out before Close",
            Self::FinTimedOut => "timed out between Close and FIN",
            Self::StillHeld => "still held by the server",
            Self::ProtocolError => "protocol error",
            Self::SendBlocked => "server did not read",
        })
    }
}

/// How many connections ended in each way, and what was said about the first of each.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: BTreeMap<Outcome, Count>,
}

#[derive(Debug)]
struct Count {
    connections: u32,
    first: Option<String>,
}

impl Tally {
    /// Counts one connection; `detail` is kept if it is the first of its outcome.
    pub(crate) fn record(&mut self, outcome: Outcome, detail: Option<String>) {
        let count = self.counts.entry(outcome).or_insert(Count {
            connections: 0,
            first: detail,
        });
        count.connections += 1;
    }

    /// How many ended so.
    pub(crate) fn count(&self, outcome: Outcome) -> u32 {
        self.counts
            .get(&outcome)
            .map_or(0, |count| count.connections)
    }

    /// How many ended.
    pub(crate) fn total(&self) -> u32 {
        self.counts.values().map(|count| count.connections).sum()
    }

    /// The outcomes that there were, their counts, and what was said about the first of each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Outcome, u32, Option<&str>)> {
        self.counts
            .iter()
            .map(|(outcome, count)| (*outcome, count.connections, count.first.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up() {
        let mut tally = Tally::default();
        for (times, outcome) in Outcome::ALL.into_iter().enumerate() {
            for _ in 0..times {
                tally.record(outcome, None);
            }
        }
        let sum: u32 = Outcome::ALL
            .iter()
            .map(|&outcome| tally.count(outcome))
            .sum();
        assert_eq!((tally.total(), sum), (105, 105));
    }

    #[test]
    fn names_are_unique() {
        let keys: std::collections::BTreeSet<_> = Outcome::ALL.map(Outcome::key).into();
        assert_eq!(keys.len(), Outcome::ALL.len());
    }

    #[test]
    fn the_first_detail_is_kept() {
        let mut tally = Tally::default();
        tally.record(Outcome::ConnectFailed, Some("refused".to_owned()));
        tally.record(Outcome::ConnectFailed, Some("unreachable".to_owned()));
        let all: Vec<_> = tally.iter().collect();
        assert_eq!(all, [(Outcome::ConnectFailed, 2, Some("refused"))]);
    }

    #[test]
    fn only_a_normal_close_that_was_asked_for_and_fin_make_closed() {
        use {Asked::*, TransportEnd::*};
        let normal = Some(CloseCode::NORMAL_CLOSURE);
        let away = Some(CloseCode::GOING_AWAY);
        let table = [
            (Close, normal, Fin, Outcome::Closed),
            (Close, away, Fin, Outcome::OtherCode),
            (Close, None, Fin, Outcome::FinWithoutClose),
            (Close, normal, Reset, Outcome::ResetByServer),
            (Close, None, Reset, Outcome::ResetByServer),
            (Nothing, normal, Fin, Outcome::EndedEarly),
            (Nothing, None, Reset, Outcome::EndedEarly),
            (Silence, away, Fin, Outcome::LetGo),
            (Silence, None, Reset, Outcome::LetGo),
        ];
        for (asked, received, end, outcome) in table {
            assert_eq!(Outcome::of(asked, received, end), outcome);
        }
    }
}
