use std::time::Duration;

use crate::deflate::{Deflate, WINDOW_BITS};
use crate::role::Role;

/// Limits and deadlines of all connections of an [`Endpoint`](crate::Endpoint).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Client or server.
    pub role: Role,
    /// Bytes of one message, all fragments together; 1 MiB.
    pub max_message_size: usize,
    /// Bytes of the payload of one frame; 1 MiB.
    pub max_frame_size: usize,
    /// Fragments of one message; 1,048,576.
    pub max_fragments: u32,
    /// A ping goes out when nothing was heard for so long, and up to an eighth and a 256th earlier; 20 s.
    /// `None`: never. At least 8 ms.
    pub ping_interval: Option<Duration>,
    /// The connection fails with 1011 when nothing is heard for so long after the ping interval;
    /// 20 s. `None`: never; pings repeat at the interval.
    pub ping_timeout: Option<Duration>,
    /// From the start of the closing handshake to the reset, and from our FIN to the reset, or from the last
    /// byte that the peer has [taken](crate::Connection::note_taken) meanwhile; 10 s.
    pub close_timeout: Duration,
    /// The connection closes with 1001 when no message arrived for so long; control frames do not
    /// count. `None`: never, the default.
    pub idle_timeout: Option<Duration>,
    /// The connection closes with 1001 at this age. `None`: never, the default.
    pub max_lifetime: Option<Duration>,
    /// Bytes of the buffers that are kept for messages which span receive buffers; 4 MiB.
    pub max_pooled_bytes: usize,
    /// permessage-deflate (RFC 7692). `None`: never negotiated, the default.
    pub deflate: Option<Deflate>,
}

impl Config {
    /// The smallest ping interval.
    pub const PING_INTERVAL_MIN: Duration = Duration::from_millis(8);

    /// The defaults for `role`.
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

    /// Checks that every limit lets a connection work.
    ///
    /// # Errors
    ///
    /// One variant per rule.
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

/// A configuration with which no connection could work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// Every message has one fragment at least.
    #[error("maximum of fragments is 0; least is 1")]
    NoFragments,
    /// Pings at such a rate would be the load.
    #[error("ping interval is {got:?}; least is 8ms")]
    PingIntervalTooShort {
        /// The interval as given.
        got: Duration,
    },
    /// zlib has levels 0 to 9.
    #[error("deflate level is {got}; 0 to 9 are supported")]
    DeflateLevel {
        /// The level as given.
        got: u32,
    },
    /// zlib has windows of 9 to 15 bits.
    #[error("deflate window bits are {got}; 9 to 15 are supported")]
    DeflateWindowBits {
        /// The bits as given.
        got: u8,
    },
    /// A deadline that has passed when it is set.
    #[error("{name} is 0; least is 1ms")]
    ZeroTimeout {
        /// Which of the timeouts.
        name: &'static str,
    },
}
