use std::time::Duration;

use crate::deflate::{Deflate, WINDOW_BITS};
use crate::role::Role;

/// Limits and deadlines of all connections of an [`Endpoint`](crate::Endpoint).
///
/// Deadlines are exact to one millisecond. A fraction of a millisecond is rounded up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Client or server.
    pub role: Role,
    /// Largest payload of a message in bytes, all fragments together. A larger message fails the connection
    /// with 1009. Default: 1 MiB.
    pub max_message_size: usize,
    /// Largest payload of a frame in bytes. A larger frame fails the connection with 1009. Default: 1 MiB.
    pub max_frame_size: usize,
    /// Largest number of fragments of a message, at least 1. A further fragment fails the connection with
    /// 1009. Default: 1,048,576.
    pub max_fragments: u32,
    /// Time without a byte from the peer until a ping is sent, at least
    /// [`PING_INTERVAL_MIN`](Self::PING_INTERVAL_MIN). Pings are early by up to 1/8 + 1/256 of it.
    /// `None`: no ping is sent. Default: 20 s.
    pub ping_interval: Option<Duration>,
    /// Time after the ping interval without a byte from the peer until the connection fails with 1011.
    /// `None`: the connection does not fail, and pings repeat at the interval. Default: 20 s.
    pub ping_timeout: Option<Duration>,
    /// Longest wait for the peer's Close after ours, and for the peer's FIN after the closing handshake.
    /// Then the connection is reset. [Acknowledgements](crate::Connection::note_acknowledged) of the peer
    /// extend it. Default: 10 s.
    pub close_timeout: Duration,
    /// Time without a message from the peer until the connection closes with 1001. Control frames are not
    /// counted. `None`, the default: no limit.
    pub idle_timeout: Option<Duration>,
    /// Age at which the connection closes with 1001. `None`, the default: no limit.
    pub max_lifetime: Option<Duration>,
    /// Largest memory of unused assembly buffers that the endpoint keeps, in bytes. They are for messages
    /// that span receive buffers. Default: 4 MiB.
    pub max_pooled_bytes: usize,
    /// Settings of permessage-deflate (RFC 7692). `None`, the default: it is not negotiated.
    pub deflate: Option<Deflate>,
}

impl Config {
    /// Smallest ping interval.
    pub const PING_INTERVAL_MIN: Duration = Duration::from_millis(8);

    /// Returns the default configuration of `role`.
    #[must_use]
    pub const fn new(role: Role) -> Self {
        Self {
            role,
            max_message_size: 1 << 20,
            max_frame_size: 1 << 20,
            max_fragments: 1 << 20,
            ping_interval: Some(Duration::from_secs(20)),
            ping_timeout: Some(Duration::from_secs(20)),
            close_timeout: Duration::from_secs(10),
            idle_timeout: None,
            max_lifetime: None,
            max_pooled_bytes: 4 << 20,
            deflate: None,
        }
    }

    /// Checks the bounds of all fields.
    ///
    /// # Errors
    ///
    /// The first field that is out of bounds.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if self.max_fragments == 0 {
            return Err(InvalidConfig::NoFragments);
        }
        if let Some(got) = self.ping_interval
            && got < Self::PING_INTERVAL_MIN
        {
            return Err(InvalidConfig::PingIntervalTooShort { got });
        }
        let timeouts = [
            ("ping timeout", self.ping_timeout),
            ("close timeout", Some(self.close_timeout)),
            ("idle timeout", self.idle_timeout),
            ("maximum lifetime", self.max_lifetime),
        ];
        for (name, timeout) in timeouts {
            if timeout.is_some_and(|timeout| timeout.is_zero()) {
                return Err(InvalidConfig::ZeroTimeout { name });
            }
        }
        self.deflate.as_ref().map_or(Ok(()), validate_deflate)
    }
}

fn validate_deflate(deflate: &Deflate) -> Result<(), InvalidConfig> {
    const LEVEL_MAX: u32 = 9;
    if deflate.level > LEVEL_MAX {
        return Err(InvalidConfig::DeflateLevel { got: deflate.level });
    }
    for got in [deflate.max_window_bits, deflate.peer_max_window_bits] {
        if !WINDOW_BITS.contains(&got) {
            return Err(InvalidConfig::DeflateWindowBits { got });
        }
    }
    Ok(())
}

/// The error of a [`Config`] with a field that is out of bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// `max_fragments` is 0.
    #[error("maximum of fragments is 0; minimum is 1")]
    NoFragments,
    /// `ping_interval` is below [`Config::PING_INTERVAL_MIN`].
    #[error("ping interval is {got:?}; minimum is 8ms")]
    PingIntervalTooShort {
        /// The configured interval.
        got: Duration,
    },
    /// The compression level is above 9.
    #[error("deflate level is {got}; 0 to 9 are supported")]
    DeflateLevel {
        /// The configured level.
        got: u32,
    },
    /// The window bits are not from 9 to 15.
    #[error("deflate window bits are {got}; 9 to 15 are supported")]
    DeflateWindowBits {
        /// The configured window bits.
        got: u8,
    },
    /// A timeout is 0.
    #[error("{name} is 0; minimum is 1ms")]
    ZeroTimeout {
        /// The name of the timeout.
        name: &'static str,
    },
}
