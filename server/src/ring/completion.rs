//! The result of an operation.

use super::{Buffer, OpCode, Token};

/// The result of an operation.
#[derive(Debug)]
pub struct Completion {
    /// The kind of the operation.
    pub op: OpCode,
    /// The token that the operation was pushed with.
    pub token: Token,
    /// A count, a [`Socket`](super::Socket), or a negated errno.
    pub result: i32,
    /// Whether the operation continues and completes again (`IORING_CQE_F_MORE`).
    pub more: bool,
    /// The provided buffer with the received bytes, and their length. Dropping it returns it to the ring.
    pub buffer: Option<Buffer>,
}

impl Completion {
    /// The last completion of an operation that has no provided buffer.
    pub(super) const fn last(op: OpCode, token: Token, result: i32) -> Self {
        Self {
            op,
            token,
            result,
            more: false,
            buffer: None,
        }
    }
}
