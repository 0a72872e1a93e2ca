//! Errors of a configuration.

use std::time::Duration;

use tidewheel_codec::{CloseCode, handshake::HEADERS_MAX};

use super::{
    bounds::{DEADLINE_MAX, MEMORY_MAX, REQUEST_SIZE},
    notation::{duration, size, size_in_words},
};
use crate::topic::TopicError;

/// A setting that is out of bounds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// The number of shards is 0.
    #[error("the number of shards is 0; the minimum is 1")]
    NoShards,
    /// There are fewer connections than shards.
    #[error(
        "the maximum number of connections is {got}; the minimum is one for each of {shards} shards"
    )]
    TooFewConnections {
        /// The maximum number of connections.
        got: u32,
        /// The number of shards.
        shards: u16,
    },
    /// A limit is 0.
    #[error("the {setting} is 0; the minimum is 1")]
    Zero {
        /// The name of the setting.
        setting: &'static str,
    },
    /// The close code of a drain is neither 1001 nor 1012.
    #[error("the close code of a drain is {got}; it must be 1001 or 1012")]
    DrainCode {
        /// The close code.
        got: CloseCode,
    },
    /// The pattern of a [`TopicRule`](crate::TopicRule) is malformed.
    #[error("`{pattern}` is not a topic pattern: {error}")]
    TopicRule {
        /// The pattern.
        pattern: String,
        /// The rule that it violates.
        error: TopicError,
    },
    /// A deadline is longer than a year.
    #[error("the {setting} is {}; the maximum is {}, a year", duration(*got), duration(DEADLINE_MAX))]
    TooLong {
        /// The name of the setting.
        setting: &'static str,
        /// The deadline.
        got: Duration,
    },
    /// A deadline is shorter than the resolution of the clock, or a ping interval shorter than 8 ms.
    #[error("the {setting} is {}; the minimum is {}", duration(*got), duration(*least))]
    TooShort {
        /// The name of the setting.
        setting: &'static str,
        /// The deadline.
        got: Duration,
        /// The minimum.
        least: Duration,
    },
    /// A limit on memory is larger than 1 TiB.
    #[error("the {setting} is {}; the maximum is {}", size_in_words(*got), size(MEMORY_MAX))]
    TooMuchMemory {
        /// The name of the setting.
        setting: &'static str,
        /// The limit in bytes.
        got: usize,
    },
    /// The maximum request size is not 256 bytes to 1 MiB.
    #[error(
        "the maximum request size is {}; the range is {} to {}",
        size_in_words(*got),
        size(*REQUEST_SIZE.start()),
        size(*REQUEST_SIZE.end())
    )]
    RequestSize {
        /// The maximum size in bytes.
        got: usize,
    },
    /// The maximum number of request headers is not 5 to 128.
    #[error("the maximum number of request headers is {got}; the range is 5 to {HEADERS_MAX}")]
    RequestHeaders {
        /// The maximum number.
        got: usize,
    },
    /// The drain interval is longer than half of the close timeout.
    #[error(
        "the drain interval is {}, and the close timeout is {}; the maximum is half of the close timeout, \
         within which a drain closes all connections",
        duration(*got),
        duration(*close_timeout)
    )]
    DrainInterval {
        /// The drain interval.
        got: Duration,
        /// The close timeout.
        close_timeout: Duration,
    },
    /// A limit on memory is too small.
    #[error("the {setting} is {}; the minimum is {}", size_in_words(*got), size(*least))]
    TooLittleMemory {
        /// The name of the setting.
        setting: &'static str,
        /// The limit in bytes.
        got: usize,
        /// The minimum in bytes.
        least: usize,
    },
    /// The number of receive buffers is not a power of two up to 32768.
    #[error("the number of receive buffers is {got}; it must be a power of two from 1 to 32768")]
    ReceiveBuffers {
        /// The number.
        got: u16,
    },
    /// The size of a receive buffer is not 256 bytes to 1 MiB.
    #[error("the receive buffer size is {got} bytes; the range is 256 to 1048576")]
    ReceiveBufferSize {
        /// The size in bytes.
        got: u32,
    },
    /// A setting of the codec is out of bounds.
    #[error(transparent)]
    Protocol(#[from] tidewheel_codec::InvalidConfig),
}
