//! `user_data`: the 64 bits that a completion carries over from its submission.

use crate::ring::{OpCode, Token};

/// The purpose of a submission queue entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    /// An operation that the caller pushed.
    Op(OpCode),
    /// Installs a descriptor for shutdown(2); the caller gets an [`OpCode::ShutdownWrite`] completion.
    InstallToShutdown,
    /// Installs a descriptor for querying `TCP_INFO`; the caller gets an [`OpCode::QueryTcpInfo`] completion.
    InstallToQuery,
}

/// All op codes; the index of each is its number minus one.
const OP_CODES: [OpCode; 18] = [
    OpCode::Accept,
    OpCode::Receive,
    OpCode::Send,
    OpCode::SendAll,
    OpCode::ShutdownWrite,
    OpCode::Cancel,
    OpCode::Close,
    OpCode::PollWakeup,
    OpCode::Connect,
    OpCode::Writable,
    OpCode::QueryTcpInfo,
    OpCode::QueryUnacked,
    OpCode::QueryError,
    OpCode::Wake,
    OpCode::Woken,
    OpCode::Fill,
    OpCode::HandOver,
    OpCode::Arrive,
];

const INSTALL_TO_SHUTDOWN: u8 = 0x80;
const INSTALL_TO_QUERY: u8 = 0x81;

impl Purpose {
    const fn number(self) -> u8 {
        match self {
            Self::Op(op) => op as u8,
            Self::InstallToShutdown => INSTALL_TO_SHUTDOWN,
            Self::InstallToQuery => INSTALL_TO_QUERY,
        }
    }
}

/// Encodes purpose (8 bits), generation (24 bits) and slot (32 bits).
pub(super) const fn encode(purpose: Purpose, token: Token) -> u64 {
    (purpose.number() as u64) << 56 | (token.generation() as u64) << 32 | token.slot() as u64
}

/// Encodes an operation.
pub(super) const fn of(op: OpCode, token: Token) -> u64 {
    encode(Purpose::Op(op), token)
}

/// Decodes the purpose and the token.
///
/// # Panics
/// If [`encode`] never returns this value.
pub(super) fn decode(user_data: u64) -> (Purpose, Token) {
    let purpose = match (user_data >> 56) as u8 {
        INSTALL_TO_SHUTDOWN => Purpose::InstallToShutdown,
        INSTALL_TO_QUERY => Purpose::InstallToQuery,
        number => Purpose::Op(OP_CODES[usize::from(number) - 1]),
    };
    let generation = (user_data >> 32) as u32 & (Token::GENERATIONS - 1);
    (purpose, Token::new(generation, user_data as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_reverses_encoding() {
        let token = Token::new(0xab_cdef, u32::MAX - 1);
        for (op, number) in OP_CODES.into_iter().zip(1..) {
            assert_eq!(op as u8, number);
            let purpose = Purpose::Op(op);
            assert_eq!(decode(encode(purpose, token)), (purpose, token));
        }
        for purpose in [Purpose::InstallToShutdown, Purpose::InstallToQuery] {
            assert_eq!(decode(encode(purpose, token)), (purpose, token));
        }
    }
}
