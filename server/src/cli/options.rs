//! The options of a server: flags over environment over file over defaults.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use serde::Deserialize;

use super::{
    file::File,
    given::Given,
    text,
    units::{Count, CountOrOff, SizeWithin, Span, SpanOrOff},
    values::{
        self, Admin, DrainCode, Host, List, Listen, LogFormat, Origin, Policy, Shards, Subprotocol,
        Switch, TopicPolicy,
    },
};
use crate::{Config, Deflate, Drain, InvalidConfig, Origins, PublishToken, config};

/// Options, each set by a flag, by a variable `TIDEWHEEL_...` or in the file of `--config`. In the help, those
/// that most people need come first.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Options {
    /// Address to listen on, HOST:PORT; 0.0.0.0:8080 serves other hosts too, and with port 0 the kernel
    /// chooses a free one [default: 127.0.0.1:8080]
    #[arg(long, env = "TIDEWHEEL_LISTEN", value_name = "ADDRESS")]
    listen: Option<Listen>,
    /// Address of the admin listener, HOST:PORT, or off. It answers HTTP: a dashboard at /, /metrics,
    /// /healthz, /readyz [default: off]
    #[arg(long, env = "TIDEWHEEL_ADMIN", value_name = "ADDRESS")]
    admin: Option<Admin>,
    /// Who asks the admin listener to publish (POST /publish/TOPIC) says `Authorization: Bearer` and
    /// this; without it nobody may. Connections to echo have then subscribed to the topic `all`
    /// [default: not set]
    #[arg(
        long,
        env = "TIDEWHEEL_PUBLISH_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    #[serde(default, deserialize_with = "text::one")]
    publish_token: Option<String>,
    /// Pages that may connect: any, same (the host and port that they connect to), https://example.com,
    /// https://*.example.com, null (pages without an origin); several, with commas between
    #[arg(long, env = "TIDEWHEEL_ORIGIN", value_name = "ORIGIN")]
    #[serde(default, deserialize_with = "text::some")]
    origin: Option<Vec<List<Origin>>>,
    /// Names under which the server may be reached, in the header Host: any, example.com, example.com:8443,
    /// *.example.com; several, with commas between. Others are told 421, on the admin listener, too: the
    /// answer to DNS rebinding [default: any]
    #[arg(long, env = "TIDEWHEEL_HOST", value_name = "NAME")]
    #[serde(default, deserialize_with = "text::some")]
    host: Option<Vec<List<Host>>>,
    /// Subprotocols (Sec-WebSocket-Protocol), with commas between. The first one in this list that the
    /// client offers is chosen, and none if it offers none of them [default: not set]
    #[arg(long, env = "TIDEWHEEL_SUBPROTOCOL", value_name = "NAME")]
    #[serde(default, deserialize_with = "text::list")]
    subprotocol: Option<Vec<List<Subprotocol>>>,
    /// Threads, each with a ring and a core of its own: a number, or auto for one per core [default:
    /// auto]
    #[arg(long, env = "TIDEWHEEL_SHARDS", value_name = "N")]
    shards: Option<Shards>,
    /// A TOML file with any of these options, named like the flags
    #[arg(long, env = "TIDEWHEEL_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Connections at most, or off [default: as many as the limits of the process allow]
    #[arg(long, env = "TIDEWHEEL_MAX_CONNECTIONS", value_name = "N", help_heading = CONNECTIONS)]
    max_connections: Option<CountOrOff>,
    /// Connections from one IPv4 address or IPv6 /64 at most, or off [default: off]
    #[arg(long, env = "TIDEWHEEL_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N", help_heading = CONNECTIONS)]
    max_connections_per_address: Option<CountOrOff>,
    /// Connections accepted in a second at most, or off [default: off]
    #[arg(long, env = "TIDEWHEEL_MAX_ACCEPT_RATE", value_name = "N", help_heading = CONNECTIONS)]
    max_accept_rate: Option<CountOrOff>,
    /// Bytes of a request for a connection at most, its body included, 256 to 1MiB [default: 16KiB]
    #[arg(long, env = "TIDEWHEEL_MAX_REQUEST_SIZE", value_name = "SIZE", help_heading = CONNECTIONS)]
    max_request_size: Option<RequestSize>,
    /// Headers of such a request at most, 5 to 128 [default: 64]
    #[arg(long, env = "TIDEWHEEL_MAX_REQUEST_HEADERS", value_name = "N", help_heading = CONNECTIONS)]
    max_request_headers: Option<RequestHeaders>,
    /// Ping a client that was silent for so long, or off [default: 20s]
    #[arg(long, env = "TIDEWHEEL_PING_INTERVAL", value_name = "DURATION", help_heading = DEADLINES)]
    ping_interval: Option<PingInterval>,
    /// Cut a client that stays silent for so long after the ping, or off [default: 20s]
    #[arg(long, env = "TIDEWHEEL_PING_TIMEOUT", value_name = "DURATION", help_heading = DEADLINES)]
    ping_timeout: Option<SpanOrOff>,
    /// Reset a closing connection whose client takes nothing for so long; a drain ends within this time
    /// [default: 10s]
    #[arg(long, env = "TIDEWHEEL_CLOSE_TIMEOUT", value_name = "DURATION", help_heading = DEADLINES)]
    close_timeout: Option<Span>,
    /// Cut a client whose request is not complete after so long [default: 10s]
    #[arg(long, env = "TIDEWHEEL_HANDSHAKE_TIMEOUT", value_name = "DURATION", help_heading = DEADLINES)]
    handshake_timeout: Option<Span>,
    /// Close a connection with 1001 that has carried no message for so long, or off [default: off]
    #[arg(long, env = "TIDEWHEEL_IDLE_TIMEOUT", value_name = "DURATION", help_heading = DEADLINES)]
    idle_timeout: Option<SpanOrOff>,
    /// Close a connection of this age with 1001, or off [default: off]
    #[arg(long, env = "TIDEWHEEL_MAX_LIFETIME", value_name = "DURATION", help_heading = DEADLINES)]
    max_lifetime: Option<SpanOrOff>,
    /// Bytes of a message at most [default: 1MiB]
    #[arg(long, env = "TIDEWHEEL_MAX_MESSAGE_SIZE", value_name = "SIZE", help_heading = MESSAGES)]
    max_message_size: Option<Memory>,
    /// Messages from one client in a second at most, or off [default: off]
    #[arg(long, env = "TIDEWHEEL_MAX_MESSAGE_RATE", value_name = "N", help_heading = MESSAGES)]
    max_message_rate: Option<CountOrOff>,
    /// Compress messages for clients that offer permessage-deflate [default: off]
    #[arg(long, env = "TIDEWHEEL_COMPRESSION", value_name = "SWITCH", help_heading = MESSAGES, ignore_case = true)]
    compression: Option<Switch>,
    /// Bytes that may wait for a client before it counts as slow [default: 1MiB]
    #[arg(long, env = "TIDEWHEEL_MAX_SEND_QUEUE", value_name = "SIZE", help_heading = SLOW_CLIENTS)]
    max_send_queue: Option<Memory>,
    /// Policy for a client whose messages exceed --max-send-queue [default: close]
    #[arg(long, env = "TIDEWHEEL_SLOW_CONSUMER", value_name = "POLICY", help_heading = SLOW_CLIENTS, ignore_case = true)]
    slow_consumer: Option<Policy>,
    /// Policy for slow readers of a topic or pattern, as in 'prices/>=conflate'; several, with
    /// commas between, of which the first that matches counts [default: as --slow-consumer]
    #[arg(long, env = "TIDEWHEEL_TOPIC_POLICY", value_name = "PATTERN=POLICY", help_heading = SLOW_CLIENTS)]
    #[serde(default, deserialize_with = "text::list")]
    topic_policy: Option<Vec<List<TopicPolicy>>>,
    /// Bytes of memory on each shard for published messages that are not yet in the send queues of all
    /// subscribers; publishers are slowed when half of it is used [default: 64MiB]
    #[arg(long, env = "TIDEWHEEL_FANOUT_MEMORY", value_name = "SIZE", help_heading = SLOW_CLIENTS)]
    fanout_memory: Option<FanoutMemory>,
    /// Connections closed in each interval of a drain [default: 1000]
    #[arg(long, env = "TIDEWHEEL_DRAIN_BATCH", value_name = "N", help_heading = SHUTTING_DOWN)]
    drain_batch: Option<Count>,
    /// Time between two batches of a drain, at most half of --close-timeout [default: 10ms]
    #[arg(long, env = "TIDEWHEEL_DRAIN_INTERVAL", value_name = "DURATION", help_heading = SHUTTING_DOWN)]
    drain_interval: Option<Span>,
    /// What a drain tells clients: 1001, going away, or 1012, service restart [default: 1001]
    #[arg(long, env = "TIDEWHEEL_DRAIN_CODE", value_name = "CODE", help_heading = SHUTTING_DOWN)]
    drain_code: Option<DrainCode>,
    /// Form of the log on standard error. The variable TIDEWHEEL_LOG says how much of it there is: off,
    /// error, warn, info (the default), debug or trace; or for parts of it, with commas between, as in
    /// info,tidewheel::close=debug, which logs every end of a connection [default: text]
    #[arg(long, env = "TIDEWHEEL_LOG_FORMAT", value_name = "FORMAT", help_heading = LOG, ignore_case = true)]
    log_format: Option<LogFormat>,
}

/// The values of options with bounds of their own.
type RequestSize = SizeWithin<{ *config::REQUEST_SIZE.start() }, { *config::REQUEST_SIZE.end() }>;
type RequestHeaders =
    Count<{ *config::REQUEST_HEADERS.start() as u32 }, { *config::REQUEST_HEADERS.end() as u32 }>;
type PingInterval = SpanOrOff<{ tidewheel_codec::Config::PING_INTERVAL_MIN.as_millis() as u64 }>;
type Memory = SizeWithin<1>;
type FanoutMemory = SizeWithin<{ config::FANOUT_MEMORY_MIN }>;

/// Headings of the help.
const CONNECTIONS: &str = "Connections";
const DEADLINES: &str = "Deadlines";
const MESSAGES: &str = "Messages";
const SLOW_CLIENTS: &str = "Slow clients";
const SHUTTING_DOWN: &str = "Shutting down";
const LOG: &str = "Log";

/// Options with everything decided.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) listen: Address,
    pub(super) admin: Option<Address>,
    pub(super) publish_token: Option<PublishToken>,
    /// The best first.
    pub(super) subprotocols: Arc<[String]>,
    pub(super) config: Config,
    pub(super) log_format: LogFormat,
}

/// An address to listen on.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) text: String,
    /// The flag, variable or entry of the file that sets it.
    pub(super) place: String,
}

/// Why options cannot be followed.
#[derive(Debug, thiserror::Error)]
pub(super) enum OptionsError {
    #[error("{place}: cannot read {path}: {error}")]
    Read {
        /// The flag or variable that names the file.
        place: String,
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("{path} is wrong: {error}{hint}")]
    Syntax {
        path: PathBuf,
        error: Box<toml::de::Error>,
        hint: String,
    },
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    #[error("{place}: {message}")]
    Value {
        /// The flag, variable or entry of the file that sets it.
        place: String,
        message: String,
    },
}

/// A ping timeout that cannot do anything.
#[derive(Debug, thiserror::Error)]
#[error(
    "the ping timeout is set, and the ping interval is off, so that no ping is ever sent; set a ping \
     interval, or leave the ping timeout out"
)]
pub(super) struct TimeoutWithoutPings;

impl Options {
    /// Those of a file alone.
    #[cfg(test)]
    pub(super) fn with_file(path: &std::path::Path) -> Self {
        Self {
            config: Some(path.to_owned()),
            ..Self::default()
        }
    }

    /// Fills in the file's values, then the defaults; of origins, these. Errors name the option as it was
    /// given.
    pub(super) fn settle(self, origins: Origins, given: &Given) -> Result<Settled, OptionsError> {
        let file = match &self.config {
            Some(path) => File::read(path, given.place("config").unwrap_or("--config"))?,
            None => File::default(),
        };
        let place = |option: &str| match given.place(option) {
            Some(place) => place.to_owned(),
            None => file.place(option).unwrap_or(format!("--{option}")),
        };
        let wrong = |option: &str, error: &dyn std::error::Error| OptionsError::Value {
            place: place(option),
            message: error.to_string(),
        };
        // Flags may turn off the pings of a file, whatever its timeout is.
        let pings = match (self.ping_interval, self.ping_timeout) {
            (Some(_), None) => Ok(()),
            (_, Some(_)) => self.clone().or(file.options.clone()).check_pings(),
            (None, None) => file.options.check_pings(),
        };
        pings.map_err(|error| wrong("ping-timeout", &error))?;
        let options = self.or(file.options.clone());
        for (option, is_redundant) in options.redundant() {
            if is_redundant {
                return Err(OptionsError::Value {
                    place: place(option),
                    message: "any allows all; leave the others out".to_owned(),
                });
            }
        }
        let config = options.config(origins);
        let checked = config.check();
        checked.map_err(|error| match option_of(&error) {
            Some(option) => wrong(&option, &error),
            None => error.into(),
        })?;
        // It is checked after parsing, because parsers print a wrong value, and this one is a secret.
        let token = options.publish_token.map(PublishToken::new).transpose();
        let address = |option: &str, text| Address {
            text,
            place: place(option),
        };
        let subprotocols = flat(options.subprotocol.unwrap_or_default());
        Ok(Settled {
            listen: address(
                "listen",
                options
                    .listen
                    .map_or_else(|| "127.0.0.1:8080".to_owned(), |it| it.0),
            ),
            admin: options
                .admin
                .and_then(|it| it.0)
                .map(|text| address("admin", text)),
            publish_token: token.map_err(|error| wrong("publish-token", &error))?,
            subprotocols: subprotocols.into_iter().map(|it| it.0).collect(),
            config,
            log_format: options.log_format.unwrap_or_default(),
        })
    }

    /// The lists in which values stand beside `any`.
    fn redundant(&self) -> [(&'static str, bool); 2] {
        let origins = flat(self.origin.clone().unwrap_or_default());
        let hosts = flat(self.host.clone().unwrap_or_default());
        let any_origin = origins.iter().any(|it| matches!(it, Origin::Any));
        let any_host = hosts.iter().any(|it| matches!(it, Host::Any));
        [
            ("origin", any_origin && origins.len() > 1),
            ("host", any_host && hosts.len() > 1),
        ]
    }

    /// A ping timeout does nothing without pings.
    fn check_pings(&self) -> Result<(), TimeoutWithoutPings> {
        match (self.ping_interval, self.ping_timeout) {
            (Some(SpanOrOff(None)), Some(SpanOrOff(Some(_)))) => Err(TimeoutWithoutPings),
            _ => Ok(()),
        }
    }

    /// These options, and where they say nothing, others.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            listen: self.listen.or(other.listen),
            admin: self.admin.or(other.admin),
            publish_token: self.publish_token.or(other.publish_token),
            origin: self.origin.or(other.origin),
            host: self.host.or(other.host),
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

    /// The configuration that these options ask for.
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
                // A close timeout may be short without a word about drains.
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

/// The values of lists, which flags may give one after another.
fn flat<T>(lists: Vec<List<T>>) -> Vec<T> {
    lists.into_iter().flat_map(|List(values)| values).collect()
}

/// The option that sets what an error is about, if one does.
fn option_of(error: &InvalidConfig) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use std::{io::Write, time::Duration};

    use super::*;
    use crate::{CloseCode, SlowConsumer, TopicRule};

    fn with_file(text: &str, flags: Options) -> Result<Settled, OptionsError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Options {
            config: Some(file.path().to_owned()),
            ..flags
        }
        .settle(Origins::Any, &Given::default())
    }

    fn settled(text: &str) -> Settled {
        with_file(text, Options::default()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn flags_come_before_the_file_and_the_file_before_defaults() {
        let flags = Options {
            ping_interval: Some(SpanOrOff(None)),
            ..Options::default()
        };
        let text =
            "ping-interval = '1s'\nping-timeout = '3s'\nshards = 2\nmax-message-size = '2KiB'";
        let settled = with_file(text, flags).unwrap();
        assert_eq!(settled.config.ping_interval, None);
        assert_eq!(settled.config.ping_timeout, Some(Duration::from_secs(3)));
        assert_eq!(settled.config.shards, Some(2));
        assert_eq!(settled.config.max_message_size, 2048);
        assert_eq!(settled.config.close_timeout, Duration::from_secs(10));
        assert_eq!(settled.listen.text, "127.0.0.1:8080");
    }

    #[test]
    fn origins_are_a_list_or_text_with_commas() {
        let expected = Origins::Listed {
            same: true,
            others: vec!["https://a.example".parse().unwrap()],
        };
        for text in [
            "origin = 'same, https://a.example'",
            "origin = ['Same', 'https://a.example:443']",
        ] {
            assert_eq!(settled(text).config.origins, expected, "{text}");
        }
        let any = settled("origin = ['Any']");
        assert_eq!(any.config.origins, Origins::Any);
        for text in [
            "origin = ['https://a.example', 'Any']",
            "host = 'any,a.example'",
        ] {
            let error = with_file(text, Options::default()).unwrap_err().to_string();
            assert!(
                error.ends_with(": any allows all; leave the others out"),
                "{error}"
            );
        }
    }

    #[test]
    fn other_lists_are_lists_or_text_with_commas_too() {
        for text in [
            "subprotocol = 'v2, v1'",
            "subprotocol = ['v2', 'v1']",
            "subprotocol = [' v2 ', 'v1']",
        ] {
            assert_eq!(*settled(text).subprotocols, ["v2", "v1"], "{text}");
        }
        for text in ["", "subprotocol = []"] {
            assert!(settled(text).subprotocols.is_empty(), "{text}");
        }
        let rule = |pattern: &str, slow_consumer| TopicRule {
            pattern: pattern.to_owned(),
            slow_consumer,
        };
        let expected = [
            rule("a/>", SlowConsumer::Conflate),
            rule("b", SlowConsumer::Close),
        ];
        for text in [
            "topic-policy = 'a/>=conflate, b=close'",
            "topic-policy = ['a/>=conflate', 'b = close']",
        ] {
            assert_eq!(settled(text).config.topics, expected, "{text}");
        }
    }

    #[test]
    fn numbers_and_truth_values_are_read_with_quotes_and_without() {
        let is = |text: &str, expected: fn(&Config) -> bool| {
            assert!(expected(&settled(text).config), "{text}");
        };
        for value in ["true", "'true'", "'on'", "'On'"] {
            is(&format!("compression = {value}"), |it| {
                it.compression.is_some()
            });
        }
        for value in ["false", "'off'"] {
            is(&format!("compression = {value}"), |it| {
                it.compression.is_none()
            });
            is(&format!("ping-interval = {value}"), |it| {
                it.ping_interval.is_none()
            });
            is(&format!("max-accept-rate = {value}"), |it| {
                it.max_accept_rate.is_none()
            });
            let admin = settled(&format!("admin = {value}")).admin;
            assert!(admin.is_none(), "{value}");
        }
        for value in ["7", "'7'"] {
            is(&format!("shards = {value}"), |it| it.shards == Some(7));
            is(&format!("max-connections = {value}"), |it| {
                it.max_connections == Some(7)
            });
            is(&format!("max-request-headers = {value}"), |it| {
                it.request_limits.max_headers == 7
            });
            is(&format!("max-message-size = {value}"), |it| {
                it.max_message_size == 7
            });
            is(&format!("drain-batch = {value}"), |it| it.drain.batch == 7);
        }
        for value in ["1012", "'1012'"] {
            is(&format!("drain-code = {value}"), |it| {
                it.drain.code == CloseCode::SERVICE_RESTART
            });
        }
        is("max-request-size = '1KiB'", |it| {
            it.request_limits.max_bytes == 1024
        });
    }

    #[test]
    fn a_ping_timeout_needs_pings() {
        let (off, second) = (Some(None), Some(Some(Duration::from_secs(1))));
        let in_file = "ping-timeout = '1s'";
        let both_in_file = "ping-interval = 'off'\nping-timeout = '1s'";
        // The interval and the timeout among the flags, and the file.
        for (ping_interval, ping_timeout, text, is_allowed) in [
            (None, None, "", true),
            (None, second, "", true),
            (off, None, "", true),
            (off, off, "", true),
            (second, second, "", true),
            (off, second, "", false),
            (off, None, in_file, true),
            (off, second, in_file, false),
            (None, None, both_in_file, false),
            (second, None, both_in_file, true),
            (None, off, both_in_file, true),
            (None, second, "ping-interval = 'off'", false),
        ] {
            let flags = Options {
                ping_interval: ping_interval.map(SpanOrOff),
                ping_timeout: ping_timeout.map(SpanOrOff),
                ..Options::default()
            };
            let is_settled = with_file(text, flags).is_ok();
            assert_eq!(
                is_settled, is_allowed,
                "{ping_interval:?} {ping_timeout:?} {text}"
            );
        }
    }

    #[test]
    fn a_short_close_timeout_shortens_the_default_interval_of_a_drain() {
        let interval = |text| settled(text).config.drain.interval;
        assert_eq!(interval(""), Duration::from_millis(10));
        assert_eq!(
            interval("close-timeout = '20ms'"),
            Duration::from_millis(10)
        );
        assert_eq!(interval("close-timeout = '6ms'"), Duration::from_millis(3));
        assert_eq!(
            interval("close-timeout = '1ms'"),
            Duration::from_micros(500)
        );
    }

    #[test]
    fn a_wrong_publish_token_is_refused_and_not_told() {
        for (token, told) in [
            ("''", "the publish token is empty"),
            ("'s3 cret'", "character 3 of the publish token"),
            ("'s3crét'", "character 5 of the publish token"),
            ("\"s3cret\\n\"", "character 7 of the publish token"),
        ] {
            let file = format!("publish-token = {token}");
            let error = with_file(&file, Options::default())
                .unwrap_err()
                .to_string();
            // The name of the file is random.
            let (_, message) = error.split_once(": ").expect("the file comes first");
            assert!(message.contains(told), "{message}");
            assert!(!message.contains("s3"), "{message}");
        }
        let settled = with_file("publish-token = 's3cret'", Options::default()).unwrap();
        assert!(settled.publish_token.unwrap().matches(b"s3cret"));
    }
}
