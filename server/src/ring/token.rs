//! Identifies an operation and the slot that it belongs to when it completes.

/// The kind of operation that completed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum OpCode {
    /// [`Op::Accept`](super::Op::Accept)
    Accept = 1,
    /// [`Op::Receive`](super::Op::Receive)
    Receive,
    /// [`Op::Send`](super::Op::Send)
    Send,
    /// [`Op::SendAll`](super::Op::SendAll)
    SendAll,
    /// [`Op::ShutdownWrite`](super::Op::ShutdownWrite), and a send with `finish`
    ShutdownWrite,
    /// [`Op::Cancel`](super::Op::Cancel), [`Op::Reset`](super::Op::Reset)
    Cancel,
    /// [`Op::Close`](super::Op::Close)
    Close,
    /// [`Op::PollWakeup`](super::Op::PollWakeup)
    PollWakeup,
    /// [`Op::Connect`](super::Op::Connect)
    Connect,
    /// [`Op::Writable`](super::Op::Writable)
    Writable,
    /// [`Op::QueryTcpInfo`](super::Op::QueryTcpInfo)
    QueryTcpInfo,
    /// [`Op::QueryUnacked`](super::Op::QueryUnacked)
    QueryUnacked,
    /// [`Op::QueryError`](super::Op::QueryError)
    QueryError,
    /// [`Op::Wake`](super::Op::Wake) that failed
    Wake,
    /// Another ring's [`Op::Wake`](super::Op::Wake) that woke this ring
    Woken,
    /// [`Op::Fill`](super::Op::Fill)
    Fill,
    /// [`Op::HandOver`](super::Op::HandOver)
    HandOver,
    /// Another ring's [`Op::HandOver`](super::Op::HandOver); `result` is the socket that it gave to this ring
    Arrive,
}

/// Whose operation it is: a slot, and the generation of the slot's user.
///
/// The kind of the operation is not part of it. The ring takes that from the [`Op`](super::Op) itself, so
/// that no completion can be taken for one of another kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct Token {
    generation: u32,
    slot: u32,
}

impl Token {
    /// Generations count modulo this.
    pub const GENERATIONS: u32 = 1 << 24;

    /// A token for the user of `slot` with this `generation`.
    ///
    /// # Panics
    /// If `generation` is not below [`Token::GENERATIONS`].
    #[must_use]
    pub const fn new(generation: u32, slot: u32) -> Self {
        assert!(generation < Self::GENERATIONS);
        Self { generation, slot }
    }

    /// The generation of the slot's user, 24 bits.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// The slot.
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.slot
    }
}
