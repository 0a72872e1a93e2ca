//! Bounds of the settings.

use std::{ops::RangeInclusive, time::Duration};

use tidewheel_codec::handshake::HEADERS_MAX;

/// The longest deadline: the timer wheel spans somewhat more.
pub(crate) const DEADLINE_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The resolution of the clock: the shortest deadline, and the shortest drain interval above zero.
pub(crate) const DEADLINE_MIN: Duration = Duration::from_millis(1);

/// The smallest [`Config::fanout_memory`](crate::Config::fanout_memory), in bytes.
pub(crate) const FANOUT_MEMORY_MIN: usize = 1 << 20;

/// The largest limit on memory, in bytes. It is more than the memory of any host.
pub(crate) const MEMORY_MAX: usize = 1 << 40;

/// Bounds of the size of a request in bytes. The shortest opening handshake has some 150 bytes (RFC 6455 4.1);
/// the upper bound keeps the memory of a client in its handshake small.
pub(crate) const REQUEST_SIZE: RangeInclusive<usize> = 256..=1 << 20;

/// Bounds of the number of headers of a request. An opening handshake has five (RFC 6455 4.1).
pub(crate) const REQUEST_HEADERS: RangeInclusive<usize> = 5..=HEADERS_MAX;

/// Bounds of the size of a receive buffer in bytes. It holds a whole control frame, and the ring limits its
/// size.
pub(crate) const RECEIVE_BUFFER_SIZE: RangeInclusive<u32> = 256..=1 << 20;

/// The largest number of receive buffers of a shard.
pub(crate) const RECEIVE_BUFFERS_MAX: u16 = 1 << 15;
