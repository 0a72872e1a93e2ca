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
    /// FIN without Close was sent, as planned, and the server ended it.
    Finished,
    /// A rule of the protocol was broken, as planned; the right Close was received, then FIN.
    Failed,
    /// No valid request was sent, as planned, and the server ended it.
    TurnedAway,
    /// The server went away, as planned: its Close 1001 was received, then FIN.
    Dismissed,
    /// Nobody listens there: the connect was answered by RST (ECONNREFUSED).
    Refused,
    /// No TCP connection came about for another reason.
    ConnectFailed,
    /// The server's answer to the opening handshake was wrong, or did not come in time.
    HandshakeFailed,
    /// The first message did not come back as it was sent, or not in time.
    EchoFailed,
    /// The server ended it before it was asked to.
    EndedEarly,
    /// Close with another code than asked for was received, then FIN.
    OtherCode,
    /// Close was asked for, FIN was received, and no Close before it.
    FinWithoutClose,
    /// Close was asked for, and the server reset the connection.
    ResetByServer,
    /// Close was asked for, and none was received within the timeout.
    CloseTimedOut,
    /// Close was asked for and received, and no FIN followed within the timeout.
    FinTimedOut,
    /// The server was to end it, and still held it when its time was over.
    StillHeld,
    /// The server broke a rule of the protocol.
    ProtocolError,
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

/// What the server was asked for when the transport ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Asked {
    /// Nothing: the connection was to stay open.
    Nothing,
    /// To answer a Close with this code.
    Close(CloseCode),
    /// To notice that the client had gone silent.
    Silence,
    /// To notice a FIN without Close.
    Fin,
    /// To fail the connection with this code.
    Failure(CloseCode),
    /// To go away, and to say so with this code.
    Goodbye(CloseCode),
}

impl Outcome {
    /// All of them, those that a scenario asks for first.
    pub(crate) const ALL: [Self; 19] = [
        Self::Closed,
        Self::Reset,
        Self::LetGo,
        Self::Finished,
        Self::Failed,
        Self::TurnedAway,
        Self::Dismissed,
        Self::Refused,
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
    ];

    /// The outcome of an open connection whose transport ended, after `received` if the server
    /// sent Close.
    pub(crate) fn of(asked: Asked, received: Option<CloseCode>, end: TransportEnd) -> Self {
        let (code, as_asked) = match asked {
            Asked::Nothing => return Self::EndedEarly,
            Asked::Silence => return Self::LetGo,
            Asked::Fin => return Self::Finished,
            Asked::Close(code) => (code, Self::Closed),
            Asked::Failure(code) => (code, Self::Failed),
            Asked::Goodbye(code) => (code, Self::Dismissed),
        };
        match (end, received) {
            (TransportEnd::Reset, _) => Self::ResetByServer,
            (TransportEnd::Fin, None) => Self::FinWithoutClose,
            (TransportEnd::Fin, Some(received)) if received == code => as_asked,
            (TransportEnd::Fin, Some(_)) => Self::OtherCode,
        }
    }

    /// The name in the JSON document.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::LetGo => "let_go",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::TurnedAway => "turned_away",
            Self::Dismissed => "dismissed",
            Self::Refused => "refused",
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
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Closed => "Close answered, then FIN",
            Self::Reset => "reset by the client",
            Self::LetGo => "silent, and let go by the server",
            Self::Finished => "FIN by the client, and ended by the server",
            Self::Failed => "rule broken, the right Close, then FIN",
            Self::TurnedAway => "no request, and ended by the server",
            Self::Dismissed => "Close 1001 by the server, then FIN",
            Self::Refused => "refused",
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
    connections: u64,
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
    pub(crate) fn count(&self, outcome: Outcome) -> u64 {
        self.counts
            .get(&outcome)
            .map_or(0, |count| count.connections)
    }

    /// How many ended.
    pub(crate) fn total(&self) -> u64 {
        self.counts.values().map(|count| count.connections).sum()
    }

    /// The message about the first that ended so.
    pub(crate) fn first(&self, outcome: Outcome) -> Option<&str> {
        self.counts.get(&outcome)?.first.as_deref()
    }

    /// How many ended otherwise than in one of these ways.
    pub(crate) fn other_than(&self, asked: &[Outcome]) -> u64 {
        self.total()
            - asked
                .iter()
                .map(|&outcome| self.count(outcome))
                .sum::<u64>()
    }

    /// The outcomes that there were, their counts, and what was said about the first of each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Outcome, u64, Option<&str>)> {
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
        let sum: u64 = Outcome::ALL
            .iter()
            .map(|&outcome| tally.count(outcome))
            .sum();
        assert_eq!((tally.total(), sum), (171, 171));
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
    fn only_the_code_that_was_asked_for_and_fin_make_an_end_in_order() {
        use Asked::{Close, Failure, Goodbye, Nothing, Silence};
        use TransportEnd::{Fin, Reset};
        let code = CloseCode::NORMAL_CLOSURE;
        let normal = Some(code);
        let away = Some(CloseCode::GOING_AWAY);
        let table = [
            (Close(code), normal, Fin, Outcome::Closed),
            (Close(code), away, Fin, Outcome::OtherCode),
            (Close(code), None, Fin, Outcome::FinWithoutClose),
            (Close(code), normal, Reset, Outcome::ResetByServer),
            (Close(code), None, Reset, Outcome::ResetByServer),
            (Failure(code), normal, Fin, Outcome::Failed),
            (Failure(code), away, Fin, Outcome::OtherCode),
            (
                Goodbye(CloseCode::GOING_AWAY),
                away,
                Fin,
                Outcome::Dismissed,
            ),
            (
                Goodbye(CloseCode::GOING_AWAY),
                away,
                Reset,
                Outcome::ResetByServer,
            ),
            (Nothing, normal, Fin, Outcome::EndedEarly),
            (Nothing, None, Reset, Outcome::EndedEarly),
            (Silence, away, Fin, Outcome::LetGo),
            (Silence, None, Reset, Outcome::LetGo),
            (Asked::Fin, None, Reset, Outcome::Finished),
        ];
        for (asked, received, end, outcome) in table {
            assert_eq!(Outcome::of(asked, received, end), outcome);
        }
    }
}
