//! The configuration of a server.

pub(crate) mod bounds;
mod check;
mod drain;
mod invalid;
pub(crate) mod notation;
mod panic_policy;
mod slow_consumer;

use std::time::Duration;

use tidewheel_codec::{
    Role,
    deflate::{Deflate, wire_size_max},
    handshake::Limits,
};

pub use self::{
    drain::Drain,
    invalid::InvalidConfig,
    panic_policy::PanicPolicy,
    slow_consumer::{SlowConsumer, TopicRule},
};
use crate::{Hosts, Origins, ProxyHeader, TrustedProxy};

/// Maximum memory of a connection in bytes beside its queued and arriving messages: the slot, the memory of the
/// queue itself, and an empty vector that is kept for reuse.
pub const CONNECTION_OVERHEAD: usize = 128 << 10;

/// Maximum ratio of the memory of queued messages to their bytes: vectors grow by doubling.
pub(crate) const ALLOCATION_FACTOR: usize = 2;

/// The settings of a server. Every limit has a default. [`ServerBuilder::configure`](crate::ServerBuilder::configure)
/// changes them, and [`ServerBuilder::bind`](crate::ServerBuilder::bind) checks the bounds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Number of shards; a shard is a thread with a ring. `None`: one per core that the process may use.
    ///
    /// `RLIMIT_NOFILE` limits the connections of each ring. More shards than cores raise the limit of the
    /// server.
    pub shards: Option<u16>,
    /// Maximum number of connections, over all shards; at least one per shard. Further connections get status
    /// 503 with `Retry-After`. `None`: as many as the limits of the process allow.
    pub max_connections: Option<u32>,
    /// Maximum number of connections from one IPv4 address or one IPv6 /64 network, over all shards; at least
    /// 1. Further connections get status 429. `None`: no limit.
    pub max_connections_per_address: Option<u32>,
    /// Maximum number of connections accepted per second, over all shards, in bursts of at most a tenth of it;
    /// at least 1. Further connections wait in the backlog of the listener. `None`: no limit.
    pub max_accept_rate: Option<u32>,
    /// Origins of the pages that may connect; default any.
    pub origins: Origins,
    /// Values of `Host` that are accepted, on the admin listener too; default any.
    pub hosts: Hosts,
    /// Proxies whose header names the client of a request, for [`Request::client`](crate::Request::client); default
    /// none. Proxies that are not listed can name no client.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// The header in which the trusted proxies name their clients; default `X-Forwarded-For`.
    pub proxy_header: ProxyHeader,
    /// Time without bytes from a client after which a ping is sent; default 20 s, at least 8 ms. The ping may be
    /// sent up to an eighth and a 256th of the interval earlier. `None`: no pings.
    ///
    /// The default is shorter than the idle timeouts of common proxies and NAT devices.
    pub ping_interval: Option<Duration>,
    /// Time after the ping interval within which a client must send any bytes, or its connection is closed with
    /// 1011; default 20 s, 1 ms to a year. `None`: no limit.
    pub ping_timeout: Option<Duration>,
    /// Time without progress after which a closing connection is reset, counted from the last byte that the
    /// client has acknowledged; default 10 s, 1 ms to a year. It also limits the duration of a drain.
    pub close_timeout: Duration,
    /// Time within which a client must send its request, and a [`Verdict::later`](crate::Verdict) or
    /// [`Response::later`](crate::Response) must answer it; default 10 s, 1 ms to a year.
    pub handshake_timeout: Duration,
    /// Time without a message after which a connection is closed with 1001; 1 ms to a year. `None`: no limit.
    pub idle_timeout: Option<Duration>,
    /// Age at which a connection is closed with 1001; 1 ms to a year. `None`: no limit.
    pub max_lifetime: Option<Duration>,
    /// Maximum size of a message in bytes; default 1 MiB, 1 byte to 1 TiB. A larger message ends the connection
    /// with 1009.
    pub max_message_size: usize,
    /// Maximum number of messages from one client per second; at least 1. More messages end the connection with
    /// 1008. `None`: no limit.
    pub max_message_rate: Option<u32>,
    /// Maximum size of the send queue of a connection in bytes; default 1 MiB, 1 byte to 1 TiB. Beyond it,
    /// [`Config::slow_consumer`] applies.
    ///
    /// A client that sends at full speed to a handler that echoes, and reads nothing, takes at most this much
    /// memory and [`Config::stall_overhead`].
    pub max_send_queue: usize,
    /// Policy for a connection whose send queue is larger than [`Config::max_send_queue`]; default
    /// [`SlowConsumer::Close`].
    pub slow_consumer: SlowConsumer,
    /// Maximum memory of each shard in bytes for published messages that are not yet in the send queues of all
    /// subscribers; default 64 MiB, 1 MiB to 1 TiB.
    ///
    /// The limit slows publishers, not subscribers. While half of it is in use, connections that publish are not
    /// read. Where it is used up, [`Conn::publish`](crate::Link::publish) and
    /// [`Publisher::publish`](crate::Publisher::publish) fail with `Busy`.
    pub fanout_memory: usize,
    /// Policies for the messages of single topics, in place of [`Config::slow_consumer`]. The first rule that
    /// matches applies.
    pub topics: Vec<TopicRule>,
    /// Whether the server counts the subscribers of each topic and pattern over all shards, for
    /// [`Link::subscribers`](crate::Link::subscribers), [`Publisher::subscribers`](crate::Publisher::subscribers),
    /// [`Handler::topic_active`](crate::Handler::topic_active) and
    /// [`Handler::topic_idle`](crate::Handler::topic_idle); default false.
    ///
    /// It takes up to 128 bytes, and the name once more, for each topic or pattern with subscribers. A subscription
    /// takes one atomic addition, and the first and the last one of a shard for a topic a short lock.
    pub presence: bool,
    /// Compression of messages for clients that offer permessage-deflate (RFC 7692). It takes 0.43 MB per shard,
    /// and much more CPU time than sending. `None`: no compression.
    pub compression: Option<Deflate>,
    /// The pace at which connections are closed when the server shuts down.
    pub drain: Drain,
    /// The policy for a panic of the handler; default [`PanicPolicy::CloseConnection`].
    pub panic: PanicPolicy,
    /// Maximum number of tasks of a connection ([`Link::spawn`](crate::Link::spawn)); default 16, at least 1. While a
    /// connection has as many, it is not read.
    pub max_tasks_per_connection: u32,
    /// Maximum number of tasks of each shard; default 65,536. While a shard has as many, a connection with a task is
    /// not read, and requests for a WebSocket, and those whose response would need a task, are refused with 503.
    ///
    /// 0: the shards have no runtime, as without the feature `tasks`, and [`Link::spawn`](crate::Link::spawn) panics.
    pub max_tasks: u32,
    /// Returns freed memory to the system, for allocators that otherwise keep it, such as `mi_collect` of
    /// mimalloc. It is called on the threads of the shards and of the admin listener, after a burst of messages or
    /// after the end of many connections. `None`: nothing is called.
    pub release_memory: Option<fn()>,
    /// Limits of a request: its bytes, a body included (default 16 KiB, 256 bytes to 1 MiB), and its headers
    /// (default 64, 5 to 128).
    pub request_limits: Limits,
    /// Number of receive buffers of each shard; default 64, a power of two up to 32768.
    pub receive_buffers: u16,
    /// Size of a receive buffer in bytes; default 16 KiB and 64 bytes, 256 bytes to 1 MiB.
    ///
    /// A message of 16 KiB fits into a default buffer with its frame header, and is neither assembled nor copied.
    pub receive_buffer_size: u32,
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
            trusted_proxies: Vec::new(),
            proxy_header: ProxyHeader::default(),
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
            presence: false,
            compression: None,
            drain: Drain::default(),
            panic: PanicPolicy::default(),
            max_tasks_per_connection: 16,
            max_tasks: 1 << 16,
            release_memory: None,
            request_limits: Limits::default(),
            receive_buffers: 64,
            receive_buffer_size: 16 * 1024 + 64,
        }
    }
}

impl Config {
    /// Maximum memory in bytes of a client that reads nothing and sends at full speed, beside
    /// [`Config::max_send_queue`]; 5.1 MiB with the defaults. It is the sum of
    ///
    /// - all receive buffers of the shard, for bytes that arrive before its socket is found full;
    /// - two messages, each in memory of up to twice its size: the message that fills half of the send queue,
    ///   after which nothing more is read, and the message that is arriving;
    /// - [`CONNECTION_OVERHEAD`].
    ///
    /// Memory that a shard keeps for reuse by all its connections is not included, such as 4 MiB of assembly
    /// buffers.
    ///
    /// One half of the send queue is for messages that the handler sends unprompted. Queued messages may also
    /// have memory of twice their size: for an echo, this is the other half.
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

    /// Size of all receive buffers of a shard in bytes.
    pub(crate) fn receive_memory(&self) -> usize {
        usize::from(self.receive_buffers) * self.receive_buffer_size as usize
    }

    /// The settings of the [`Endpoint`](tidewheel_codec::Endpoint) of a shard with this configuration.
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
    fn the_stall_overhead_is_the_documented_sum() {
        let overhead = Config::default().stall_overhead();
        assert_eq!(overhead, 64 * 16_448 + (4 << 20) + (128 << 10));
        assert_eq!(
            format!("{:.1}", overhead as f64 / f64::from(1 << 20)),
            "5.1"
        );
    }
}
