//! What comes back with a completion: which operation it was, and for whom.

/// The kind of operation that a [`Token`] stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum OpCode {
    /// [`Op::Accept`](super::Op::Accept)
    Accept = 1,
    /// [`Op::Receive`](super::Op::Receive)
    Receive,
    /// [`Op::Send`](super::Op::Send)
    Send,
    /// [`Op::Finish`](super::Op::Finish), and a send that was to be followed by FIN
    Finish,
    /// [`Op::Cancel`](super::Op::Cancel), [`Op::Reset`](super::Op::Reset)
    Cancel,
    /// [`Op::Close`](super::Op::Close)
    Close,
    /// [`Op::Listen`](super::Op::Listen)
    Listen,
    /// [`Op::Connect`](super::Op::Connect)
    Connect,
    /// [`Op::Writable`](super::Op::Writable)
    Writable,
    /// [`Op::Quiet`](super::Op::Quiet)
    Quiet,
    /// [`Op::Wake`](super::Op::Wake), where it has failed
    Wake,
    /// Another ring's [`Op::Wake`](super::Op::Wake) has woken this one
    Woken,
    /// [`Op::Fill`](super::Op::Fill)
    Fill,
    /// [`Op::HandOver`](super::Op::HandOver)
    HandOver,
    /// Another ring's [`Op::HandOver`](super::Op::HandOver) has given this one a socket; `result` is it
    Arrive,
    /// A step on the way to [`OpCode::Finish`], which the ring keeps to itself.
    InstallToFinish,
    /// A step on the way to [`OpCode::Quiet`], which the ring keeps to itself.
    InstallToAsk,
}

/// An operation's `user_data`: op code (8 bits), generation (24 bits), slot (32 bits).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct Token(u64);

impl Token {
    /// Generations count modulo this.
    pub const GENERATIONS: u32 = 1 << 24;

    /// A token of operation `op` for the connection in `slot` of `generation` (24 bits).
    #[must_use]
    pub const fn new(op: OpCode, generation: u32, slot: u32) -> Self {
        assert!(generation < Self::GENERATIONS);
        Self((op as u64) << 56 | (generation as u64) << 32 | slot as u64)
    }

    /// The token that the kernel gives back as `user_data`.
    ///
    /// # Panics
    /// If no [`Token::bits`] was ever submitted with this value.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        assert!(bits >> 56 >= OpCode::Accept as u64 && bits >> 56 <= OpCode::InstallToAsk as u64);
        Self(bits)
    }

    /// The `user_data` to submit.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Which operation it was.
    #[must_use]
    pub const fn op(self) -> OpCode {
        match self.0 >> 56 {
            1 => OpCode::Accept,
            2 => OpCode::Receive,
            3 => OpCode::Send,
            4 => OpCode::Finish,
            5 => OpCode::Cancel,
            6 => OpCode::Close,
            7 => OpCode::Listen,
            8 => OpCode::Connect,
            9 => OpCode::Writable,
            10 => OpCode::Quiet,
            11 => OpCode::Wake,
            12 => OpCode::Woken,
            13 => OpCode::Fill,
            14 => OpCode::HandOver,
            15 => OpCode::Arrive,
            16 => OpCode::InstallToFinish,
            17 => OpCode::InstallToAsk,
            _ => unreachable!(), // checked at construction
        }
    }

    /// The generation of the connection, 24 bits.
    #[must_use]
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & (Self::GENERATIONS - 1)
    }

    /// The connection's slot.
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.0 as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        for op in [OpCode::Accept, OpCode::Receive, OpCode::Connect] {
            let token = Token::from_bits(Token::new(op, 0xab_cdef, u32::MAX - 1).bits());
            assert_eq!(
                (token.op(), token.generation(), token.slot()),
                (op, 0xab_cdef, u32::MAX - 1)
            );
        }
    }
}
