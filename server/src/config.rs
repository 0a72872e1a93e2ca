//! What can be set, and within which bounds.

use std::{ops::RangeInclusive, time::Duration};

use tidewheel_codec::{
    CloseCode, Role,
    deflate::{Deflate, wire_size_max},
    handshake::{HEADERS_MAX, Limits},
};

use crate::{
    Hosts, Origins,
    topic::{TopicError, check_pattern},
};

/// Bytes of memory that a connection costs at most beside the bytes that wait and those that arrive:
/// its slot, its queue's own memory, and an empty vector that is kept for what comes next.
pub const CONNECTION_OVERHEAD: usize = 128 << 10;

/// Memory of what waits is at most so many times its bytes: vectors grow by doubling.
pub(crate) const ALLOCATION_FACTOR: usize = 2;

/// The longest deadline: a timer wheel turns in somewhat more.
pub(crate) const DEADLINE_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The least [`Config::fanout_memory`].
pub(crate) const FANOUT_MEMORY_MIN: usize = 1 << 20;

/// The most bytes of a setting that bounds memory: no host has as many.
pub(crate) const MEMORY_MAX: usize = 1 << 40;

/// Bounds of the bytes of a request. The shortest opening handshake has some 150 bytes (RFC 6455 4.1), and the
/// memory of a client that has yet to be accepted is to stay small.
pub(crate) const REQUEST_SIZE: RangeInclusive<usize> = 256..=1 << 20;

/// Bounds of the headers of a request. An opening handshake has five (RFC 6455 4.1).
pub(crate) const REQUEST_HEADERS: RangeInclusive<usize> = 5..=HEADERS_MAX;

/// The clock counts these: no deadline is shorter, nor is the time between two batches of a drain.
const CLOCK: Duration = Duration::from_millis(1);

/// A duration as it stands on the command line: `20ms`, `1.5s`, `2m`, `1h`.
pub(crate) fn written(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let micros = duration.as_micros() as f64;
    match duration.subsec_nanos() {
        0 if seconds == 0 => "0s".to_owned(),
        0 if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        0 if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ if seconds == 0 => format!("{}ms", micros / 1e3),
        _ => format!("{}s", micros / 1e6),
    }
}

/// The units of sizes, the largest first.
pub(crate) const SIZE_UNITS: [(&str, usize); 3] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A size as it stands on the command line: `1MiB`, `1000`.
pub(crate) fn written_size(bytes: usize) -> String {
    let mut units = SIZE_UNITS.iter();
    match units.find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// A size in a sentence: `1MiB`, `1000 bytes`.
fn told_size(bytes: usize) -> String {
    match written_size(bytes) {
        size if size.ends_with('B') => size,
        size => format!("{size} bytes"),
    }
}

/// The settings of a server. Every limit has a default; [`Config::check`] is called once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Shards, each a thread with a ring of its own; `None`: one per core that the process may
    /// use. More than there are cores lifts the limit that `RLIMIT_NOFILE` sets to each ring.
    pub shards: Option<u16>,
    /// Connections, all shards together; `None`: as many as the limits of the process allow. Who
    /// comes when all are taken is told 503, and when to try again.
    pub max_connections: Option<u32>,
    /// Connections from one IPv4 address or one IPv6 /64, all shards together; `None`: any
    /// number. Who is beyond that is told 429.
    pub max_connections_per_address: Option<u32>,
    /// Connections accepted in a second, all shards together, with bursts of a tenth of that;
    /// `None`: as many as come. Others wait in the listener's backlog.
    pub max_accept_rate: Option<u32>,
    /// Which pages may connect.
    pub origins: Origins,
    /// Under which names the server may be reached, the admin listener as well.
    pub hosts: Hosts,
    /// A ping goes out when a peer was silent for so long, or up to an eighth and a 256th earlier; `None`:
    /// never. 20 s, well below what proxies and NAT devices cut.
    pub ping_interval: Option<Duration>,
    /// A peer that stays silent for so long after the ping interval is cut; 20 s.
    pub ping_timeout: Option<Duration>,
    /// Time after which a closing connection is reset, counted from the last byte that its client
    /// has taken of what was sent before; 10 s. A drain waits no longer in all.
    pub close_timeout: Duration,
    /// How long a client may take to send its request; 10 s.
    pub handshake_timeout: Duration,
    /// A connection without messages for so long is closed with 1001; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// A connection is closed with 1001 at this age; `None`: never.
    pub max_lifetime: Option<Duration>,
    /// Bytes of a message; 1 MiB, at least 1. A larger one ends the connection with 1009.
    pub max_message_size: usize,
    /// Messages that a peer may send within each second; `None`: any number. Who sends more is
    /// closed with 1008.
    pub max_message_rate: Option<u32>,
    /// Bytes that may wait for a peer before the policy for slow consumers applies; 1 MiB. A client
    /// that reads nothing, and sends all it can to a handler that echoes, costs so much memory and
    /// [`Config::stall_overhead`] at most.
    pub max_send_queue: usize,
    /// What happens then.
    pub slow_consumer: SlowConsumer,
    /// Bytes of memory on each shard for messages that were published and are not yet in the send
    /// queues of all subscribers; 64 MiB, at least 1 MiB. It bounds the publishers, not the
    /// subscribers: connections that publish are not read while half of it is used, and
    /// [`Conn::publish`](crate::Conn::publish) and [`Remote::publish`](crate::Remote::publish) fail
    /// with `Busy` where there is no room.
    pub fanout_memory: usize,
    /// What happens then to messages of certain topics; the first rule that matches counts.
    pub topics: Vec<TopicRule>,
    /// Compression of messages for clients that offer it (permessage-deflate, RFC 7692); `None`:
    /// off. It costs 0.43 MB a shard, and far more CPU than sending.
    pub compression: Option<Deflate>,
    /// How connections are closed when the server shuts down.
    pub drain: Drain,
    /// What a panic of the handler ends.
    pub panic: PanicPolicy,
    /// Called on the thread of each shard, and on that of the control plane, when a burst of messages is
    /// over, or many connections have ended: a program whose allocator keeps what was freed gives it back to
    /// the system there, as by `mi_collect` of mimalloc; `None`: nothing is called.
    pub release_memory: Option<fn()>,
    /// Bytes and headers of a request: 256 bytes to 1 MiB, a body included, and 5 to 128 headers; 16 KiB and
    /// 64.
    pub request_limits: Limits,
    /// Receive buffers of each shard, a power of two; 64.
    pub receive_buffers: u16,
    /// Bytes of each receive buffer; 16 KiB and 64 bytes, so that a message of 16 KiB lies in one,
    /// with its header: it is neither assembled nor copied.
    pub receive_buffer_size: u32,
}

/// A rule for the messages of some topics.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicRule {
    /// A topic, or a pattern: `prices/*`, `orders/>`.
    pub pattern: String,
    /// What happens to a subscriber that reads too slowly.
    pub slow_consumer: SlowConsumer,
}

/// What happens to a peer that reads too slowly.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SlowConsumer {
    /// It is closed with 1008, policy violation.
    #[default]
    Close,
    /// It is closed with 1013, try again later.
    CloseTryAgain,
    /// The oldest messages that wait are dropped, until there is room; the handler's `gap` is
    /// called with their number when it has read the others.
    DropOldest,
    /// A message replaces those that wait, once the peer has not taken everything; of those, too,
    /// `gap` tells the number.
    Conflate,
    /// New messages to it are dropped until it has read what waits; then the handler's `gap` is
    /// called with their number.
    DropNewest,
}

/// What a panic of a [`Handler`](crate::Handler)'s callback ends. In any case it is logged with its
/// message and its place, and counted. It needs a program that unwinds (`panic = "unwind"`, which is
/// the default of all profiles).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PanicPolicy {
    /// The connection: with 1011, internal error, behind what was sent before, and
    /// [`Cause::HandlerPanic`](crate::Cause::HandlerPanic); `close` is called for it as for any other.
    /// The client of an `upgrade` that panics is told 500.
    #[default]
    CloseConnection,
    /// The server: the shard ends as one that has failed, without a call of `close` for its connections,
    /// and the others drain.
    StopServer,
}

/// How connections are closed when the server shuts down: in batches, so that their clients do
/// not all come back at once. Within half of the close timeout all are told, in larger batches if
/// need be; what is open at the close timeout is reset.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Drain {
    /// Connections that are closed in each interval, all shards together; 1000.
    pub batch: u32,
    /// The time between two batches; 10 ms, and half of the close timeout at most.
    pub interval: Duration,
    /// What they are told: 1001, going away, or 1012, service restart.
    pub code: CloseCode,
}

impl SlowConsumer {
    /// Whether a subscriber that cannot keep up is closed, and not its messages dropped.
    pub(crate) const fn closes(self) -> bool {
        match self {
            Self::Close | Self::CloseTryAgain => true,
            Self::DropOldest | Self::DropNewest | Self::Conflate => false,
        }
    }

    /// Whether messages that wait may be dropped.
    pub(crate) const fn drops_oldest(self) -> bool {
        match self {
            Self::DropOldest | Self::Conflate => true,
            Self::Close | Self::CloseTryAgain | Self::DropNewest => false,
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            batch: 1000,
            interval: Duration::from_millis(10),
            code: CloseCode::GOING_AWAY,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shards: None,
            max_connections: None,
            max_connections_per_address: None,
            max_accept_rate: None,
            origins: Origins::default(),
            hosts: Hosts::default(),
            ping_interval: Some(Duration::from_secs(20)),
            ping_timeout: Some(Duration::from_secs(20)),
            close_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: None,
            max_lifetime: None,
            max_message_size: 1 << 20,
            max_message_rate: None,
            max_send_queue: 1 << 20,
            slow_consumer: SlowConsumer::default(),
            fanout_memory: 64 << 20,
            topics: Vec::new(),
            compression: None,
            drain: Drain::default(),
            panic: PanicPolicy::default(),
            release_memory: None,
            request_limits: Limits::default(),
            receive_buffers: 64,
            receive_buffer_size: 16 * 1024 + 64,
        }
    }
}

/// A setting that no server can work with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// Every server has a shard.
    #[error("the number of shards is 0; least is 1")]
    NoShards,
    /// Every server has room for a connection on each shard.
    #[error("the maximum of connections is {got}; least is one for each of {shards} shards")]
    TooFewConnections {
        /// The maximum as given.
        got: u32,
        /// The number of shards.
        shards: u16,
    },
    /// Nobody could ever connect, or say anything.
    #[error("the {setting} is 0; least is 1")]
    Zero {
        /// The name of the setting.
        setting: &'static str,
    },
    /// A code that means something else, or may not be sent.
    #[error("connections cannot be drained with {got}; 1001 and 1012 are possible")]
    DrainCode {
        /// The code as given.
        got: CloseCode,
    },
    /// A rule is for no topic.
    #[error("`{pattern}` is no pattern of topics: {error}")]
    TopicRule {
        /// The pattern as given.
        pattern: String,
        /// What is wrong with it.
        error: TopicError,
    },
    /// A deadline that nobody lives to see.
    #[error("the {setting} is {}; most is {}, a year", written(*got), written(DEADLINE_MAX))]
    TooLong {
        /// The name of the setting.
        setting: &'static str,
        /// The deadline as given.
        got: Duration,
    },
    /// A deadline that has passed when it is set, or pings that would be the load.
    #[error("the {setting} is {}; least is {}", written(*got), written(*least))]
    TooShort {
        /// The name of the setting.
        setting: &'static str,
        /// The deadline as given.
        got: Duration,
        /// The shortest that is possible.
        least: Duration,
    },
    /// No host has so much memory.
    #[error("the {setting} is {}; most is {}", told_size(*got), written_size(MEMORY_MAX))]
    TooMuchMemory {
        /// The name of the setting.
        setting: &'static str,
        /// The bytes as given.
        got: usize,
    },
    /// No client could connect, or each could take very much memory.
    #[error(
        "the maximum request size is {}; {} to {} are possible",
        told_size(*got),
        written_size(*REQUEST_SIZE.start()),
        written_size(*REQUEST_SIZE.end())
    )]
    RequestSize {
        /// The bytes as given.
        got: usize,
    },
    /// No client could connect, or more are asked for than can be parsed.
    #[error("the maximum of headers of a request is {got}; 5 to {HEADERS_MAX} are possible")]
    RequestHeaders {
        /// The number as given.
        got: usize,
    },
    /// The second batch would come when all are to be told already.
    #[error(
        "the drain interval is {}, and the close timeout is {}; most is half of the close timeout, within \
         which a drain tells all connections",
        written(*got),
        written(*close_timeout)
    )]
    DrainInterval {
        /// The interval as given.
        got: Duration,
        /// The close timeout as given.
        close_timeout: Duration,
    },
    /// No message could be received, queued or published.
    #[error("the {setting} is {}; least is {}", told_size(*got), written_size(*least))]
    TooLittleMemory {
        /// The name of the setting.
        setting: &'static str,
        /// The bytes as given.
        got: usize,
        /// The least bytes that are possible.
        least: usize,
    },
    /// The kernel takes a power of two.
    #[error("{got} receive buffers; it takes a power of two, 1 to 32768")]
    ReceiveBuffers {
        /// The number as given.
        got: u16,
    },
    /// A buffer holds at least a whole control frame, and the ring bounds its size.
    #[error("receive buffers are of {got} bytes; 256 to 1048576 are allowed")]
    ReceiveBufferSize {
        /// The size as given.
        got: u32,
    },
    /// A rule of the protocol's own settings.
    #[error(transparent)]
    Protocol(#[from] tidewheel_codec::InvalidConfig),
}

impl Config {
    /// Checks that a server can work so.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        if self.shards == Some(0) {
            return Err(InvalidConfig::NoShards);
        }
        let shards = self.shards.unwrap_or(1);
        if let Some(got) = self.max_connections
            && got < u32::from(shards)
        {
            return Err(InvalidConfig::TooFewConnections { got, shards });
        }
        let at_least_one = [
            (
                "maximum connections per address",
                self.max_connections_per_address == Some(0),
            ),
            ("maximum accept rate", self.max_accept_rate == Some(0)),
            ("maximum message rate", self.max_message_rate == Some(0)),
            ("drain batch", self.drain.batch == 0),
        ];
        for (setting, is_zero) in at_least_one {
            if is_zero {
                return Err(InvalidConfig::Zero { setting });
            }
        }
        for TopicRule { pattern, .. } in &self.topics {
            check_pattern(pattern).map_err(|error| InvalidConfig::TopicRule {
                pattern: pattern.clone(),
                error,
            })?;
        }
        self.check_deadlines()?;
        self.check_drain()?;
        for (setting, got, least) in [
            ("maximum message size", self.max_message_size, 1),
            ("maximum send queue", self.max_send_queue, 1),
            ("fanout memory", self.fanout_memory, FANOUT_MEMORY_MIN),
        ] {
            if got < least {
                return Err(InvalidConfig::TooLittleMemory {
                    setting,
                    got,
                    least,
                });
            }
            if got > MEMORY_MAX {
                return Err(InvalidConfig::TooMuchMemory { setting, got });
            }
        }
        let Limits {
            max_bytes,
            max_headers,
        } = self.request_limits;
        if !REQUEST_SIZE.contains(&max_bytes) {
            return Err(InvalidConfig::RequestSize { got: max_bytes });
        }
        if !REQUEST_HEADERS.contains(&max_headers) {
            return Err(InvalidConfig::RequestHeaders { got: max_headers });
        }
        if !self.receive_buffers.is_power_of_two() || self.receive_buffers > 1 << 15 {
            return Err(InvalidConfig::ReceiveBuffers {
                got: self.receive_buffers,
            });
        }
        if !(256..=1 << 20).contains(&self.receive_buffer_size) {
            return Err(InvalidConfig::ReceiveBufferSize {
                got: self.receive_buffer_size,
            });
        }
        Ok(self.protocol().validate()?)
    }

    fn check_deadlines(&self) -> Result<(), InvalidConfig> {
        let ping_interval_min = tidewheel_codec::Config::PING_INTERVAL_MIN;
        for (setting, deadline, least) in [
            ("ping interval", self.ping_interval, ping_interval_min),
            ("ping timeout", self.ping_timeout, CLOCK),
            ("close timeout", Some(self.close_timeout), CLOCK),
            ("handshake timeout", Some(self.handshake_timeout), CLOCK),
            ("idle timeout", self.idle_timeout, CLOCK),
            ("maximum lifetime", self.max_lifetime, CLOCK),
        ] {
            match deadline {
                Some(got) if got < least => {
                    return Err(InvalidConfig::TooShort {
                        setting,
                        got,
                        least,
                    });
                }
                Some(got) if got > DEADLINE_MAX => {
                    return Err(InvalidConfig::TooLong { setting, got });
                }
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    fn check_drain(&self) -> Result<(), InvalidConfig> {
        let got = self.drain.code;
        if !matches!(got, CloseCode::GOING_AWAY | CloseCode::SERVICE_RESTART) {
            return Err(InvalidConfig::DrainCode { got });
        }
        let (got, close_timeout) = (self.drain.interval, self.close_timeout);
        if got > (close_timeout / 2).max(CLOCK) {
            return Err(InvalidConfig::DrainInterval { got, close_timeout });
        }
        Ok(())
    }

    /// Bytes of memory that a client costs at most beside [`Config::max_send_queue`] which reads
    /// nothing and sends all it can; with the defaults 5.1 MiB. These are
    ///
    /// - what it has sent before its socket was found full: all receive buffers of the shard;
    /// - two messages: the one that went beyond half of the queue, after which nothing more is read,
    ///   and the one that is arriving, each in memory of up to twice its size;
    /// - [`CONNECTION_OVERHEAD`].
    ///
    /// What a shard keeps for reuse is not counted: it is there once for all connections, such as 4
    /// MiB of buffers in which messages were assembled.
    ///
    /// Of the send queue one half is for what the handler sends of its own accord. What is queued
    /// may have memory of twice its size, too: for an echo, that is the other half.
    #[must_use]
    pub fn stall_overhead(&self) -> usize {
        let arriving = match &self.compression {
            Some(_) => wire_size_max(self.max_message_size),
            None => self.max_message_size,
        };
        let messages = self.max_message_size.saturating_add(arriving);
        self.receive_memory()
            .saturating_add(messages.saturating_mul(ALLOCATION_FACTOR))
            .saturating_add(CONNECTION_OVERHEAD)
    }

    /// Bytes of all receive buffers of a shard.
    pub(crate) fn receive_memory(&self) -> usize {
        usize::from(self.receive_buffers) * self.receive_buffer_size as usize
    }

    /// The settings of the protocol: those of the [`Endpoint`](tidewheel_codec::Endpoint) that a shard with
    /// this configuration is made with.
    #[must_use]
    pub fn protocol(&self) -> tidewheel_codec::Config {
        let mut protocol = tidewheel_codec::Config::new(Role::Server);
        protocol.max_message_size = self.max_message_size;
        protocol.max_frame_size = self.max_message_size;
        protocol.ping_interval = self.ping_interval;
        protocol.ping_timeout = self.ping_timeout;
        protocol.close_timeout = self.close_timeout;
        protocol.idle_timeout = self.idle_timeout;
        protocol.max_lifetime = self.max_lifetime;
        protocol.deflate.clone_from(&self.compression);
        protocol
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_costs_that_does_not_read_is_as_documented() {
        let overhead = Config::default().stall_overhead();
        assert_eq!(overhead, 64 * 16_448 + (4 << 20) + (128 << 10));
        assert_eq!(
            format!("{:.1}", overhead as f64 / f64::from(1 << 20)),
            "5.1"
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_and_its_neighbours_are_not() {
        let ms = Duration::from_millis;
        let with = |change: &dyn Fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().map_err(|error| error.to_string())
        };
        let drain = |interval, close_timeout| {
            with(&|it| {
                it.drain.interval = interval;
                it.close_timeout = close_timeout;
            })
        };
        let memory = |text: &str| format!("{text} is 1099511627777 bytes; most is 1024GiB");
        let refused = |told: &str| Err(told.to_owned());
        for (checked, expected) in [
            (with(&|it| it.max_message_size = 1), Ok(())),
            (
                with(&|it| it.max_message_size = 0),
                refused("the maximum message size is 0 bytes; least is 1"),
            ),
            (with(&|it| it.max_message_size = 1 << 40), Ok(())),
            (
                with(&|it| it.max_message_size = (1 << 40) + 1),
                Err(memory("the maximum message size")),
            ),
            (with(&|it| it.max_send_queue = 1), Ok(())),
            (
                with(&|it| it.max_send_queue = (1 << 40) + 1),
                Err(memory("the maximum send queue")),
            ),
            (
                with(&|it| it.fanout_memory = (1 << 40) + 1),
                Err(memory("the fanout memory")),
            ),
            (with(&|it| it.request_limits.max_bytes = 256), Ok(())),
            (
                with(&|it| it.request_limits.max_bytes = 255),
                refused("the maximum request size is 255 bytes; 256 to 1MiB are possible"),
            ),
            (with(&|it| it.request_limits.max_bytes = 1 << 20), Ok(())),
            (
                with(&|it| it.request_limits.max_bytes = (1 << 20) + 1),
                refused("the maximum request size is 1048577 bytes; 256 to 1MiB are possible"),
            ),
            (with(&|it| it.request_limits.max_headers = 5), Ok(())),
            (
                with(&|it| it.request_limits.max_headers = 4),
                refused("the maximum of headers of a request is 4; 5 to 128 are possible"),
            ),
            (with(&|it| it.request_limits.max_headers = 128), Ok(())),
            (
                with(&|it| it.request_limits.max_headers = 129),
                refused("the maximum of headers of a request is 129; 5 to 128 are possible"),
            ),
            (drain(ms(500), ms(1000)), Ok(())),
            (drain(ms(0), ms(1000)), Ok(())),
            (drain(ms(1), ms(1)), Ok(())),
            (
                drain(ms(501), ms(1000)),
                refused(
                    "the drain interval is 501ms, and the close timeout is 1s; most is half of the close \
                     timeout, within which a drain tells all connections",
                ),
            ),
            (
                drain(ms(10), ms(0)),
                refused("the close timeout is 0s; least is 1ms"),
            ),
            (
                with(&|it| it.ping_interval = Some(ms(0))),
                refused("the ping interval is 0s; least is 8ms"),
            ),
            (with(&|it| it.ping_interval = Some(ms(8))), Ok(())),
            (
                with(&|it| it.handshake_timeout = ms(0)),
                refused("the handshake timeout is 0s; least is 1ms"),
            ),
            (with(&|it| it.max_lifetime = Some(DEADLINE_MAX)), Ok(())),
            (
                with(&|it| it.max_lifetime = Some(DEADLINE_MAX + ms(1500))),
                refused("the maximum lifetime is 31536001.5s; most is 8760h, a year"),
            ),
            (
                with(&|it| it.max_send_queue = 0),
                refused("the maximum send queue is 0 bytes; least is 1"),
            ),
            (with(&|it| it.fanout_memory = 1 << 20), Ok(())),
            (
                with(&|it| it.fanout_memory = 1 << 10),
                refused("the fanout memory is 1KiB; least is 1MiB"),
            ),
            (
                with(&|it| it.drain.batch = 0),
                refused("the drain batch is 0; least is 1"),
            ),
        ] {
            assert_eq!(checked, expected);
        }
    }
}
