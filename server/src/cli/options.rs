//! The options of `tidewheel serve` and `tidewheel echo`, as given by one source.

use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;

use super::{
    address::{Admin, Listen},
    choice::{ForwardingHeader, LogFormat, Policy, Switch},
    file_value,
    units::{Count, CountOrOff, SizeWithin, Span, SpanOrOff},
    values::{self, DrainCode, Host, List, Origin, Proxy, Shards, Subprotocol, TopicPolicy},
};
use crate::{Config, Deflate, Drain, InvalidConfig, Origins, config::bounds};

/// The options that one source sets: the flags and variables, or the configuration file. `None` where it does
/// not set an option.
///
/// The order of the fields is the order of the help: the most needed options come first.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Options {
    /// Address to listen on, as HOST:PORT. Use 0.0.0.0:8080 to accept clients from other hosts. With port 0
    /// the kernel chooses a free port [default: 127.0.0.1:8080]
    #[arg(long, env = "TIDEWHEEL_LISTEN", value_name = "ADDRESS")]
    pub(super) listen: Option<Listen>,
    /// Address of the admin listener, as HOST:PORT, or off. It serves a dashboard at /, and /metrics,
    /// /healthz and /readyz [default: off]
    #[arg(long, env = "TIDEWHEEL_ADMIN", value_name = "ADDRESS")]
    pub(super) admin: Option<Admin>,
    // Its help differs between commands: `command.rs` sets it.
    #[arg(
        long,
        env = "TIDEWHEEL_PUBLISH_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    #[serde(default, deserialize_with = "file_value::one")]
    pub(super) publish_token: Option<String>,
    /// Origins of the pages that may connect, separated by commas: any, same (the host and port that the page
    /// connects to), https://example.com, https://*.example.com, or null (pages without an origin)
    #[arg(long, env = "TIDEWHEEL_ORIGIN", value_name = "ORIGIN")]
    #[serde(default, deserialize_with = "file_value::some")]
    origin: Option<Vec<List<Origin>>>,
    /// Values of the Host header to accept, separated by commas: any, example.com, example.com:8443, or
    /// *.example.com. Requests with other values get status 421, on the admin listener too. This prevents DNS
    /// rebinding [default: any]
    #[arg(long, env = "TIDEWHEEL_HOST", value_name = "NAME")]
    #[serde(default, deserialize_with = "file_value::some")]
    host: Option<Vec<List<Host>>>,
    /// Addresses of trusted proxies, separated by commas: 192.0.2.1, or a range such as 10.0.0.0/8. A request of
    /// a trusted proxy is a request of the client that the proxy names [default: not set]
    #[arg(long, env = "TIDEWHEEL_TRUSTED_PROXIES", value_name = "CIDR")]
    #[serde(default, deserialize_with = "file_value::list")]
    trusted_proxies: Option<Vec<List<Proxy>>>,
    /// Header in which trusted proxies name their clients. The proxies must set it, or append to it
    /// [default: x-forwarded-for]
    #[arg(
        long,
        env = "TIDEWHEEL_PROXY_HEADER",
        value_name = "NAME",
        ignore_case = true
    )]
    proxy_header: Option<ForwardingHeader>,
    /// Supported subprotocols (Sec-WebSocket-Protocol), separated by commas, in order of preference. The
    /// server selects the first one that the client offers, or none [default: not set]
    #[arg(long, env = "TIDEWHEEL_SUBPROTOCOL", value_name = "NAME")]
    #[serde(default, deserialize_with = "file_value::list")]
    pub(super) subprotocol: Option<Vec<List<Subprotocol>>>,
    /// Number of shards, or auto for one per core. A shard is a thread with an io_uring instance, pinned to
    /// a core [default: auto]
    #[arg(long, env = "TIDEWHEEL_SHARDS", value_name = "N")]
    shards: Option<Shards>,
    /// TOML file with any of these options, named like the flags [default: not set]
    #[arg(long, env = "TIDEWHEEL_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub(super) config: Option<PathBuf>,
    /// Maximum number of connections, or off. Further connections get status 503. With off, the limits of
    /// the process apply [default: off]
    #[arg(long, env = "TIDEWHEEL_MAX_CONNECTIONS", value_name = "N", help_heading = CONNECTIONS)]
    max_connections: Option<CountOrOff>,
    /// Maximum number of connections from one IPv4 address or one IPv6 /64 network, or off. Further
    /// connections get status 429 [default: off]
    #[arg(long, env = "TIDEWHEEL_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N", help_heading = CONNECTIONS)]
    max_connections_per_address: Option<CountOrOff>,
    /// Maximum number of connections accepted per second, or off. Further connections wait in the backlog of
    /// the listener [default: off]
    #[arg(long, env = "TIDEWHEEL_MAX_ACCEPT_RATE", value_name = "N", help_heading = CONNECTIONS)]
    max_accept_rate: Option<CountOrOff>,
    /// Maximum size of an opening handshake request, its body included, 256 to 1MiB [default: 16KiB]
    #[arg(long, env = "TIDEWHEEL_MAX_REQUEST_SIZE", value_name = "SIZE", help_heading = CONNECTIONS)]
    max_request_size: Option<RequestSize>,
    /// Maximum number of headers in an opening handshake request, 5 to 128 [default: 64]
    #[arg(long, env = "TIDEWHEEL_MAX_REQUEST_HEADERS", value_name = "N", help_heading = CONNECTIONS)]
    max_request_headers: Option<RequestHeaders>,
    /// Time without any bytes from a client after which the server sends a ping, or off; at least 8ms
    /// [default: 20s]
    #[arg(long, env = "TIDEWHEEL_PING_INTERVAL", value_name = "DURATION", help_heading = DEADLINES)]
    ping_interval: Option<PingInterval>,
    /// Time after the ping interval within which a client must send any bytes, or its connection is closed
    /// with code 1011; or off [default: 20s]
    #[arg(long, env = "TIDEWHEEL_PING_TIMEOUT", value_name = "DURATION", help_heading = DEADLINES)]
    ping_timeout: Option<SpanOrOff>,
    /// Time without progress after which a closing connection is reset. A drain ends within this time
    /// [default: 10s]
    #[arg(long, env = "TIDEWHEEL_CLOSE_TIMEOUT", value_name = "DURATION", help_heading = DEADLINES)]
    close_timeout: Option<Span>,
    /// Time within which a client must send its opening handshake request [default: 10s]
    #[arg(long, env = "TIDEWHEEL_HANDSHAKE_TIMEOUT", value_name = "DURATION", help_heading = DEADLINES)]
    handshake_timeout: Option<Span>,
    /// Time without a message after which a connection is closed with code 1001, or off [default: off]
    #[arg(long, env = "TIDEWHEEL_IDLE_TIMEOUT", value_name = "DURATION", help_heading = DEADLINES)]
    idle_timeout: Option<SpanOrOff>,
    /// Age at which a connection is closed with code 1001, or off [default: off]
    #[arg(long, env = "TIDEWHEEL_MAX_LIFETIME", value_name = "DURATION", help_heading = DEADLINES)]
    max_lifetime: Option<SpanOrOff>,
    /// Maximum size of a message. A larger message ends the connection with code 1009 [default: 1MiB]
    #[arg(long, env = "TIDEWHEEL_MAX_MESSAGE_SIZE", value_name = "SIZE", help_heading = MESSAGES)]
    max_message_size: Option<Memory>,
    /// Maximum number of messages from one client per second, or off. More messages end the connection with
    /// code 1008 [default: off]
    #[arg(long, env = "TIDEWHEEL_MAX_MESSAGE_RATE", value_name = "N", help_heading = MESSAGES)]
    max_message_rate: Option<CountOrOff>,
    /// Compress messages for clients that offer permessage-deflate [default: off]
    #[arg(long, env = "TIDEWHEEL_COMPRESSION", value_name = "SWITCH", help_heading = MESSAGES, ignore_case = true)]
    compression: Option<Switch>,
    /// Maximum size of the send queue of a client. Beyond it, --slow-consumer applies [default: 1MiB]
    #[arg(long, env = "TIDEWHEEL_MAX_SEND_QUEUE", value_name = "SIZE", help_heading = SLOW_CLIENTS)]
    max_send_queue: Option<Memory>,
    /// Policy for a client whose send queue is larger than --max-send-queue [default: close]
    #[arg(long, env = "TIDEWHEEL_SLOW_CONSUMER", value_name = "POLICY", help_heading = SLOW_CLIENTS, ignore_case = true)]
    slow_consumer: Option<Policy>,
    /// Policies for the messages of single topics or patterns, separated by commas, as in
    /// 'prices/>=conflate'. The first match applies [default: --slow-consumer for all topics]
    #[arg(long, env = "TIDEWHEEL_TOPIC_POLICY", value_name = "PATTERN=POLICY", help_heading = SLOW_CLIENTS)]
    #[serde(default, deserialize_with = "file_value::list")]
    topic_policy: Option<Vec<List<TopicPolicy>>>,
    /// Memory per shard for published messages that are not yet in the send queues of all subscribers, at
    /// least 1MiB. Publishers are slowed when half of it is in use [default: 64MiB]
    #[arg(long, env = "TIDEWHEEL_FANOUT_MEMORY", value_name = "SIZE", help_heading = SLOW_CLIENTS)]
    fanout_memory: Option<FanoutMemory>,
    /// Number of connections closed in one batch of a drain [default: 1000]
    #[arg(long, env = "TIDEWHEEL_DRAIN_BATCH", value_name = "N", help_heading = SHUTTING_DOWN)]
    drain_batch: Option<Count>,
    /// Time between two batches of a drain, at most half of --close-timeout [default: 10ms]
    #[arg(long, env = "TIDEWHEEL_DRAIN_INTERVAL", value_name = "DURATION", help_heading = SHUTTING_DOWN)]
    drain_interval: Option<Span>,
    /// Close code of a drain: 1001 (going away) or 1012 (service restart) [default: 1001]
    #[arg(long, env = "TIDEWHEEL_DRAIN_CODE", value_name = "CODE", help_heading = SHUTTING_DOWN)]
    drain_code: Option<DrainCode>,
    /// Format of the log on standard error. The variable TIDEWHEEL_LOG sets the level: off, error, warn, info
    /// (the default), debug or trace. Targets can have levels of their own: info,tidewheel::close=debug also
    /// logs the end of every connection [default: text]
    #[arg(long, env = "TIDEWHEEL_LOG_FORMAT", value_name = "FORMAT", help_heading = LOG, ignore_case = true)]
    pub(super) log_format: Option<LogFormat>,
}

type RequestSize = SizeWithin<{ *bounds::REQUEST_SIZE.start() }, { *bounds::REQUEST_SIZE.end() }>;
type RequestHeaders =
    Count<{ *bounds::REQUEST_HEADERS.start() as u32 }, { *bounds::REQUEST_HEADERS.end() as u32 }>;
type PingInterval = SpanOrOff<{ tidewheel_codec::Config::PING_INTERVAL_MIN.as_millis() as u64 }>;
type Memory = SizeWithin<1>;
type FanoutMemory = SizeWithin<{ bounds::FANOUT_MEMORY_MIN }>;

/// Headings of the help.
const CONNECTIONS: &str = "Connections";
const DEADLINES: &str = "Deadlines";
const MESSAGES: &str = "Messages";
const SLOW_CLIENTS: &str = "Slow clients";
const SHUTTING_DOWN: &str = "Shutting down";
const LOG: &str = "Log";

/// A ping timeout beside a disabled ping interval.
#[derive(Debug, thiserror::Error)]
#[error(
    "the ping timeout has no effect, because the ping interval is off and no ping is sent; set a ping \
     interval, or leave the ping timeout out"
)]
pub(super) struct TimeoutWithoutPings;

impl Options {
    /// The lists that have other values beside `any`, by the name of the option.
    pub(super) fn redundant(&self) -> [(&'static str, bool); 2] {
        let origins = flat(self.origin.clone().unwrap_or_default());
        let hosts = flat(self.host.clone().unwrap_or_default());
        let any_origin = origins.iter().any(|it| matches!(it, Origin::Any));
        let any_host = hosts.iter().any(|it| matches!(it, Host::Any));
        [
            ("origin", any_origin && origins.len() > 1),
            ("host", any_host && hosts.len() > 1),
        ]
    }

    /// Checks that a ping timeout has a ping interval. `self` are the flags and variables: a ping interval
    /// among them disables the pings of the file, whatever timeout the file has.
    pub(super) fn check_pings(&self, file: &Self) -> Result<(), TimeoutWithoutPings> {
        let (interval, timeout) = match (self.ping_interval, self.ping_timeout) {
            (Some(_), None) => return Ok(()),
            (interval, Some(timeout)) => (interval.or(file.ping_interval), Some(timeout)),
            (None, None) => (file.ping_interval, file.ping_timeout),
        };
        match (interval, timeout) {
            (Some(SpanOrOff(None)), Some(SpanOrOff(Some(_)))) => Err(TimeoutWithoutPings),
            _ => Ok(()),
        }
    }

    /// Fills in the options that are not set here from `other`.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            listen: self.listen.or(other.listen),
            admin: self.admin.or(other.admin),
            publish_token: self.publish_token.or(other.publish_token),
            origin: self.origin.or(other.origin),
            host: self.host.or(other.host),
            trusted_proxies: self.trusted_proxies.or(other.trusted_proxies),
            proxy_header: self.proxy_header.or(other.proxy_header),
            subprotocol: self.subprotocol.or(other.subprotocol),
            shards: self.shards.or(other.shards),
            config: self.config.or(other.config),
            max_connections: self.max_connections.or(other.max_connections),
            max_connections_per_address: self
                .max_connections_per_address
                .or(other.max_connections_per_address),
            max_accept_rate: self.max_accept_rate.or(other.max_accept_rate),
            max_request_size: self.max_request_size.or(other.max_request_size),
            max_request_headers: self.max_request_headers.or(other.max_request_headers),
            ping_interval: self.ping_interval.or(other.ping_interval),
            ping_timeout: self.ping_timeout.or(other.ping_timeout),
            close_timeout: self.close_timeout.or(other.close_timeout),
            handshake_timeout: self.handshake_timeout.or(other.handshake_timeout),
            idle_timeout: self.idle_timeout.or(other.idle_timeout),
            max_lifetime: self.max_lifetime.or(other.max_lifetime),
            max_message_size: self.max_message_size.or(other.max_message_size),
            max_message_rate: self.max_message_rate.or(other.max_message_rate),
            compression: self.compression.or(other.compression),
            max_send_queue: self.max_send_queue.or(other.max_send_queue),
            slow_consumer: self.slow_consumer.or(other.slow_consumer),
            topic_policy: self.topic_policy.or(other.topic_policy),
            fanout_memory: self.fanout_memory.or(other.fanout_memory),
            drain_batch: self.drain_batch.or(other.drain_batch),
            drain_interval: self.drain_interval.or(other.drain_interval),
            drain_code: self.drain_code.or(other.drain_code),
            log_format: self.log_format.or(other.log_format),
        }
    }

    /// The configuration of the server. `origins` is the default of the command for `--origin`.
    pub(super) fn config(&self, origins: Origins) -> Config {
        let default = Config::default();
        let span = |option: Option<Span>, default| option.map_or(default, |it| it.0);
        let span_or_off = |option: Option<SpanOrOff>, default| option.map_or(default, |it| it.0);
        let count_or_off = |option: Option<CountOrOff>| option.and_then(|it| it.0);
        let close_timeout = span(self.close_timeout, default.close_timeout);
        let mut request_limits = default.request_limits;
        request_limits.max_bytes = self
            .max_request_size
            .map_or(request_limits.max_bytes, |it| it.0);
        if let Some(Count(headers)) = self.max_request_headers {
            request_limits.max_headers = headers as usize;
        }
        Config {
            // The handlers of the program start no tasks.
            max_tasks: 0,
            shards: match self.shards {
                Some(Shards::Count(count)) => Some(count),
                Some(Shards::Auto) | None => None,
            },
            max_connections: count_or_off(self.max_connections),
            max_connections_per_address: count_or_off(self.max_connections_per_address),
            max_accept_rate: count_or_off(self.max_accept_rate),
            origins: self
                .origin
                .clone()
                .map_or(origins, |it| values::origins(flat(it))),
            hosts: self
                .host
                .clone()
                .map_or(default.hosts, |it| values::hosts(flat(it))),
            trusted_proxies: flat(self.trusted_proxies.clone().unwrap_or_default())
                .into_iter()
                .map(|it| it.0)
                .collect(),
            proxy_header: self.proxy_header.map_or(default.proxy_header, Into::into),
            ping_interval: self.ping_interval.map_or(default.ping_interval, |it| it.0),
            ping_timeout: span_or_off(self.ping_timeout, default.ping_timeout),
            close_timeout,
            handshake_timeout: span(self.handshake_timeout, default.handshake_timeout),
            idle_timeout: span_or_off(self.idle_timeout, default.idle_timeout),
            max_lifetime: span_or_off(self.max_lifetime, default.max_lifetime),
            max_message_size: self
                .max_message_size
                .map_or(default.max_message_size, |it| it.0),
            max_message_rate: count_or_off(self.max_message_rate),
            max_send_queue: self
                .max_send_queue
                .map_or(default.max_send_queue, |it| it.0),
            slow_consumer: self.slow_consumer.map_or(default.slow_consumer, Into::into),
            fanout_memory: self.fanout_memory.map_or(default.fanout_memory, |it| it.0),
            topics: self
                .topic_policy
                .iter()
                .flatten()
                .flat_map(|List(rules)| rules)
                .map(|it| it.0.clone())
                .collect(),
            compression: match self.compression {
                Some(Switch::On) => Some(Deflate::default()),
                Some(Switch::Off) | None => None,
            },
            drain: Drain {
                batch: self.drain_batch.map_or(default.drain.batch, |it| it.0),
                // A short close timeout also shortens the default interval.
                interval: span(
                    self.drain_interval,
                    default.drain.interval.min(close_timeout / 2),
                ),
                code: self.drain_code.map_or(default.drain.code, |it| it.0),
            },
            request_limits,
            ..default
        }
    }
}

/// The values of a list whose flag was given several times.
pub(super) fn flat<T>(lists: Vec<List<T>>) -> Vec<T> {
    lists.into_iter().flat_map(|List(values)| values).collect()
}

/// The name of the option that sets the value of an error; `None` if no option does.
pub(super) fn option_of(error: &InvalidConfig) -> Option<String> {
    let option = match error {
        InvalidConfig::NoShards => "shards",
        InvalidConfig::TooFewConnections { .. } => "max-connections",
        InvalidConfig::DrainCode { .. } => "drain-code",
        InvalidConfig::TopicRule { .. } => "topic-policy",
        InvalidConfig::RequestSize { .. } => "max-request-size",
        InvalidConfig::RequestHeaders { .. } => "max-request-headers",
        InvalidConfig::DrainInterval { .. } => "drain-interval",
        InvalidConfig::Zero { setting }
        | InvalidConfig::TooLong { setting, .. }
        | InvalidConfig::TooShort { setting, .. }
        | InvalidConfig::TooLittleMemory { setting, .. }
        | InvalidConfig::TooMuchMemory { setting, .. } => {
            return Some(setting.replace("maximum", "max").replace(' ', "-"));
        }
        InvalidConfig::ReceiveBuffers { .. }
        | InvalidConfig::ReceiveBufferSize { .. }
        | InvalidConfig::Protocol(_) => return None,
    };
    Some(option.to_owned())
}
