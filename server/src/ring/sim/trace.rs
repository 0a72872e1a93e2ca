//! The record of a simulation's events.

use super::{
    super::{OpCode, Token},
    client::ClientId,
};

/// One event of a simulation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Event {
    /// Virtual time in milliseconds.
    pub at_ms: u64,
    /// The kind of the event.
    pub kind: EventKind,
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventKind {
    /// The shard pushed an operation.
    Submitted {
        /// The operation's kind.
        op: OpCode,
        /// The operation's token.
        token: Token,
    },
    /// An operation completed.
    Completed {
        /// The operation's kind.
        op: OpCode,
        /// The operation's token.
        token: Token,
        /// The completion's result.
        result: i32,
        /// Whether the operation continues.
        more: bool,
    },
    /// The next completion did not fit into the queue.
    Overflowed,
    /// A client acted.
    Client {
        /// The client.
        client: ClientId,
        /// `connect`, `send`, `finish`, `reset` or `vanish`.
        action: &'static str,
        /// Number of bytes sent.
        bytes: usize,
    },
    /// A segment reached a client.
    Arrived {
        /// The client.
        client: ClientId,
        /// `bytes`, `finish` or `reset`.
        segment: &'static str,
        /// Number of bytes received.
        bytes: usize,
    },
}
