use crate::close::CloseCode;

/// The connection is no longer open: nothing can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection is closing or closed")]
pub struct Closed;

/// A ping that cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PingError {
    /// The connection is no longer open.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// RFC 6455 5.5: a control frame has a payload of 125 bytes or less.
    #[error("ping payload is {got} bytes; limit is 125")]
    TooLong {
        /// Bytes of the payload as given.
        got: usize,
    },
}

/// A Close frame that cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    /// RFC 6455 7.4: a code that must not be sent.
    #[error("close code {got} must not be sent; 1000-1003, 1007-1014 and 3000-4999 may")]
    InvalidCode {
        /// The code as given.
        got: CloseCode,
    },
    /// RFC 6455 5.5: a control frame has a payload of 125 bytes or less, of which the code is 2.
    #[error("close reason is {got} bytes; limit is 123")]
    ReasonTooLong {
        /// Bytes of the reason as given.
        got: usize,
    },
}
