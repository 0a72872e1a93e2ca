//! The outcome of each connection of a run, and their counts.

use std::{collections::BTreeMap, fmt};

use tidewheel_codec::CloseCode;

/// The end of a connection, as seen by its client. Each connection has exactly one outcome.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Outcome {
    /// The client sent Close 1000, and received Close 1000, then FIN.
    Closed,
    /// The client reset the connection, as planned.
    Reset,
    /// The client went silent, as planned, and the server ended the connection.
    Released,
    /// The client sent FIN without Close, as planned, and the server ended the connection.
    Finished,
    /// The client violated the protocol, as planned, and received the right Close, then FIN.
    Failed,
    /// The client sent no valid request, as planned, and the server ended the connection.
    TurnedAway,
    /// The server shut down, as planned. The client received Close 1001, then FIN.
    ShutDown,
    /// The connect was answered by RST (ECONNREFUSED): no server listens at the address.
    Refused,
    /// The connect failed for another reason.
    ConnectFailed,
    /// The answer to the opening handshake was invalid or late.
    HandshakeFailed,
    /// The first message came back changed, late, or not at all.
    EchoFailed,
    /// The server ended the connection unexpectedly.
    EndedEarly,
    /// The client received Close with an unexpected code, then FIN.
    OtherCode,
    /// The server sent FIN without the expected Close.
    FinWithoutClose,
    /// The server reset the connection instead of closing it.
    ResetByServer,
    /// The expected Close did not arrive within the timeout.
    CloseTimedOut,
    /// Close arrived, and FIN did not follow within the timeout.
    FinTimedOut,
    /// The server still held the connection when it should have ended it.
    StillHeld,
    /// The server violated the protocol.
    ProtocolError,
}

/// The end of the transport of an open connection.
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

/// The action that was expected of the server when the transport ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Expected {
    /// Nothing. The connection was to stay open.
    Nothing,
    /// Answer a Close with this code.
    Close(CloseCode),
    /// End a silent connection.
    Silence,
    /// Answer a FIN without Close.
    Fin,
    /// Fail the connection with this code (RFC 6455 7.1.7).
    Failure(CloseCode),
    /// Shut down, and send Close with this code.
    Shutdown(CloseCode),
}

impl Outcome {
    /// All outcomes. Those that a scenario can expect come first.
    pub(crate) const ALL: [Self; 19] = [
        Self::Closed,
        Self::Reset,
        Self::Released,
        Self::Finished,
        Self::Failed,
        Self::TurnedAway,
        Self::ShutDown,
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

    /// Returns the outcome of an open connection whose transport ended. `received` is the code of
    /// the Close that the server sent, if it did.
    pub(crate) fn of(expected: Expected, received: Option<CloseCode>, end: TransportEnd) -> Self {
        let (code, as_expected) = match expected {
            Expected::Nothing => return Self::EndedEarly,
            Expected::Silence => return Self::Released,
            Expected::Fin => return Self::Finished,
            Expected::Close(code) => (code, Self::Closed),
            Expected::Failure(code) => (code, Self::Failed),
            Expected::Shutdown(code) => (code, Self::ShutDown),
        };
        match (end, received) {
            (TransportEnd::Reset, _) => Self::ResetByServer,
            (TransportEnd::Fin, None) => Self::FinWithoutClose,
            (TransportEnd::Fin, Some(received)) if received == code => as_expected,
            (TransportEnd::Fin, Some(_)) => Self::OtherCode,
        }
    }

    /// Returns the name in the JSON document.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Released => "let_go",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::TurnedAway => "turned_away",
            Self::ShutDown => "dismissed",
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
            Self::Released => "silent, and ended by the server",
            Self::Finished => "FIN by the client, and ended by the server",
            Self::Failed => "protocol violated, right Close, then FIN",
            Self::TurnedAway => "no valid request, and ended by the server",
            Self::ShutDown => "Close 1001 by the server, then FIN",
            Self::Refused => "refused",
            Self::ConnectFailed => "connect failed",
            Self::HandshakeFailed => "handshake failed",
            Self::EchoFailed => "echo failed",
            Self::EndedEarly => "ended unexpectedly",
            Self::OtherCode => "Close with another code",
            Self::FinWithoutClose => "FIN without Close",
            Self::ResetByServer => "reset by the server",
            Self::CloseTimedOut => "no Close within the timeout",
            Self::FinTimedOut => "Close, but no FIN within the timeout",
            Self::StillHeld => "still held by the server",
            Self::ProtocolError => "protocol error",
        })
    }
}

/// The number of connections of each outcome, and a detail of the first one.
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
    /// Counts one connection. `detail` is kept if it is the first with this outcome.
    pub(crate) fn record(&mut self, outcome: Outcome, detail: Option<String>) {
        let count = self.counts.entry(outcome).or_insert(Count {
            connections: 0,
            first: detail,
        });
        count.connections += 1;
    }

    /// Returns the number of connections with this outcome.
    pub(crate) fn count(&self, outcome: Outcome) -> u64 {
        self.counts
            .get(&outcome)
            .map_or(0, |count| count.connections)
    }

    /// Returns the number of all connections.
    pub(crate) fn total(&self) -> u64 {
        self.counts.values().map(|count| count.connections).sum()
    }

    /// Returns the detail of the first connection with this outcome.
    pub(crate) fn first(&self, outcome: Outcome) -> Option<&str> {
        self.counts.get(&outcome)?.first.as_deref()
    }

    /// Returns the number of connections with an outcome that is not in `expected`.
    pub(crate) fn other_than(&self, expected: &[Outcome]) -> u64 {
        self.total()
            - expected
                .iter()
                .map(|&outcome| self.count(outcome))
                .sum::<u64>()
    }

    /// Returns the outcomes that occurred, their counts, and the detail of the first connection of
    /// each.
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
    fn the_counts_of_all_outcomes_add_up_to_the_total() {
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
    fn keys_of_outcomes_are_unique() {
        let keys: std::collections::BTreeSet<_> = Outcome::ALL.map(Outcome::key).into();
        assert_eq!(keys.len(), Outcome::ALL.len());
    }

    #[test]
    fn the_detail_of_the_first_connection_is_kept() {
        let mut tally = Tally::default();
        tally.record(Outcome::ConnectFailed, Some("refused".to_owned()));
        tally.record(Outcome::ConnectFailed, Some("unreachable".to_owned()));
        let all: Vec<_> = tally.iter().collect();
        assert_eq!(all, [(Outcome::ConnectFailed, 2, Some("refused"))]);
    }

    #[test]
    fn only_the_expected_code_followed_by_fin_is_an_expected_end() {
        use Expected::{Close, Failure, Nothing, Shutdown, Silence};
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
                Shutdown(CloseCode::GOING_AWAY),
                away,
                Fin,
                Outcome::ShutDown,
            ),
            (
                Shutdown(CloseCode::GOING_AWAY),
                away,
                Reset,
                Outcome::ResetByServer,
            ),
            (Nothing, normal, Fin, Outcome::EndedEarly),
            (Nothing, None, Reset, Outcome::EndedEarly),
            (Silence, away, Fin, Outcome::Released),
            (Silence, None, Reset, Outcome::Released),
            (Expected::Fin, None, Reset, Outcome::Finished),
        ];
        for (expected, received, end, outcome) in table {
            assert_eq!(Outcome::of(expected, received, end), outcome);
        }
    }
}
