use crate::close::CloseCode;

/// The error of sending on a connection that is closing or closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection is closing or closed")]
pub struct Closed;

/// The error of a ping that cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PingError {
    /// The connection is closing or closed.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The payload is longer than 125 bytes (RFC 6455 5.5).
    #[error("ping payload is {got} bytes; limit is 125")]
    TooLong {
        /// The length of the payload in bytes.
        got: usize,
    },
}

/// The error of a Close frame that cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The code must not be sent (RFC 6455 7.4).
    #[error("close code {got} must not be sent; 1000-1003, 1007-1014 and 3000-4999 may")]
    InvalidCode {
        /// The invalid code.
        got: CloseCode,
    },
    /// The reason is longer than 123 bytes: a control frame has at most 125 (RFC 6455 5.5), and the code
    /// takes 2.
    #[error("close reason is {got} bytes; limit is 123")]
    ReasonTooLong {
        /// The length of the reason in bytes.
        got: usize,
    },
}
