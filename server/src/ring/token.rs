//! The identity of an operation: its kind, and the slot that it belongs to.

/// The kind of an operation.
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
    /// [`Op::ShutdownWrite`](super::Op::ShutdownWrite), and the shutdown behind a send with `finish`
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
    /// An [`Op::Wake`](super::Op::Wake) that failed
    Wake,
    /// A wake-up by another ring's [`Op::Wake`](super::Op::Wake)
    Woken,
    /// [`Op::Fill`](super::Op::Fill)
    Fill,
    /// [`Op::HandOver`](super::Op::HandOver)
    HandOver,
    /// A socket from another ring's [`Op::HandOver`](super::Op::HandOver); `result` is the
    /// [`Socket`](super::Socket) in this ring
    Arrive,
}

/// The owner of an operation: a slot, and the generation of the slot's user.
///
/// The ring takes the kind of an operation from the [`Op`](super::Op) itself, so a caller cannot mix up
/// completions of different kinds.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct Token {
    generation: u32,
    slot: u32,
}

impl Token {
    /// The number of generations; they wrap around.
    pub const GENERATIONS: u32 = 1 << 24;

    /// Creates a token for the user of `slot` with this `generation`.
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
