//! The options of a server: flags over environment over file over defaults.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::units::{CountOrOff, Size, Span, SpanOrOff};
use crate::{
    CloseCode, Config, Deflate, Drain, InvalidOrigin, OriginPattern, Origins, SlowConsumer,
    TopicRule,
};

/// What can be set by a flag, by a variable `TIDEWHEEL_...` or in the file of `--config`.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Options {
    /// Who asks the admin listener to publish (POST /publish/TOPIC) says `Authorization: Bearer` and
    /// this; without it nobody may. Connections to echo have then subscribed to the topic `all`
    /// [default: none]
    #[arg(
        long,
        env = "TIDEWHEEL_PUBLISH_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    publish_token: Option<String>,
    /// What happens to slow readers of a topic or pattern, as in 'prices/>=conflate'; several, with
    /// commas between, of which the first that matches counts [default: as --slow-consumer]
    #[arg(
        long,
        env = "TIDEWHEEL_TOPIC_POLICY",
        value_name = "PATTERN=POLICY",
        value_delimiter = ','
    )]
    topic_policy: Option<Vec<TopicPolicy>>,
    /// Address and port to listen on; port 0 lets the kernel choose [default: 127.0.0.1:8080]
    #[arg(long, env = "TIDEWHEEL_LISTEN", value_name = "ADDRESS")]
    listen: Option<String>,
    /// Address of the admin listener (a dashboard, /metrics, /healthz, /readyz), or off [default: off]
    #[arg(long, env = "TIDEWHEEL_ADMIN", value_name = "ADDRESS")]
    admin: Option<String>,
    /// Threads, each with a ring and a core of its own: a number, or auto for one per core
    /// [default: auto]
    #[arg(long, env = "TIDEWHEEL_SHARDS", value_name = "N", value_parser = shards)]
    #[serde(default, deserialize_with = "shards_in_file")]
    shards: Option<Shards>,
    /// Connections at most [default: as many as the limits of the process allow]
    #[arg(long, env = "TIDEWHEEL_MAX_CONNECTIONS", value_name = "N")]
    max_connections: Option<u32>,
    /// Connections from one IPv4 address or IPv6 /64 at most, or off [default: off]
    #[arg(long, env = "TIDEWHEEL_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N")]
    max_connections_per_address: Option<CountOrOff>,
    /// Connections accepted in a second at most, or off [default: off]
    #[arg(long, env = "TIDEWHEEL_MAX_ACCEPT_RATE", value_name = "N")]
    max_accept_rate: Option<CountOrOff>,
    /// Pages that may connect: any, same (the host that they connect to), https://example.com,
    /// https://*.example.com, null (pages without an origin); several, with commas between [default:
    /// same for serve, any for echo]
    #[arg(
        long,
        env = "TIDEWHEEL_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    #[serde(default, deserialize_with = "origins_in_file")]
    origin: Option<Vec<Origin>>,
    /// Ping a client that was silent for so long, or off [default: 20s]
    #[arg(long, env = "TIDEWHEEL_PING_INTERVAL", value_name = "DURATION")]
    ping_interval: Option<SpanOrOff>,
    /// Cut a client that stays silent for so long after that, or off [default: 20s]
    #[arg(long, env = "TIDEWHEEL_PING_TIMEOUT", value_name = "DURATION")]
    ping_timeout: Option<SpanOrOff>,
    /// Reset a closing connection after so long [default: 10s]
    #[arg(long, env = "TIDEWHEEL_CLOSE_TIMEOUT", value_name = "DURATION")]
    close_timeout: Option<Span>,
    /// Cut a client whose request is not complete after so long [default: 10s]
    #[arg(long, env = "TIDEWHEEL_HANDSHAKE_TIMEOUT", value_name = "DURATION")]
    handshake_timeout: Option<Span>,
    /// Close a connection that has carried no message for so long, or off [default: off]
    #[arg(long, env = "TIDEWHEEL_IDLE_TIMEOUT", value_name = "DURATION")]
    idle_timeout: Option<SpanOrOff>,
    /// Close a connection of this age, or off [default: off]
    #[arg(long, env = "TIDEWHEEL_MAX_LIFETIME", value_name = "DURATION")]
    max_lifetime: Option<SpanOrOff>,
    /// Bytes of a message at most [default: 1MiB]
    #[arg(long, env = "TIDEWHEEL_MAX_MESSAGE_SIZE", value_name = "SIZE")]
    max_message_size: Option<Size>,
    /// Messages from one client in a second at most, or off [default: off]
    #[arg(long, env = "TIDEWHEEL_MAX_MESSAGE_RATE", value_name = "N")]
    max_message_rate: Option<CountOrOff>,
    /// Bytes that may wait for a client before it counts as slow [default: 1MiB]
    #[arg(long, env = "TIDEWHEEL_MAX_SEND_QUEUE", value_name = "SIZE")]
    max_send_queue: Option<Size>,
    /// Bytes of memory on each shard for published messages that are not yet in the send queues of all
    /// subscribers; publishers are slowed when half of it is used [default: 64MiB]
    #[arg(long, env = "TIDEWHEEL_FANOUT_MEMORY", value_name = "SIZE")]
    fanout_memory: Option<Size>,
    /// What happens to a slow client [default: close]
    #[arg(long, env = "TIDEWHEEL_SLOW_CONSUMER", value_name = "POLICY")]
    slow_consumer: Option<Policy>,
    /// Connections closed in each interval of a drain [default: 1000]
    #[arg(long, env = "TIDEWHEEL_DRAIN_BATCH", value_name = "N")]
    drain_batch: Option<u32>,
    /// Time between two batches of a drain [default: 10ms]
    #[arg(long, env = "TIDEWHEEL_DRAIN_INTERVAL", value_name = "DURATION")]
    drain_interval: Option<Span>,
    /// What a drain tells clients: 1001, going away, or 1012, service restart [default: 1001]
    #[arg(long, env = "TIDEWHEEL_DRAIN_CODE", value_name = "CODE")]
    drain_code: Option<u16>,
    /// Compress messages for clients that offer permessage-deflate [default: off]
    #[arg(long, env = "TIDEWHEEL_COMPRESSION", value_name = "SWITCH")]
    compression: Option<Switch>,
    /// Form of the log on standard error; TIDEWHEEL_LOG says how much of it [default: text]
    #[arg(long, env = "TIDEWHEEL_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// A TOML file with any of these, named like the flags
    #[arg(long, env = "TIDEWHEEL_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,
}

/// A number of shards.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Shards {
    Auto,
    Count(u16),
}

/// What happens to a peer that reads too slowly.
#[derive(Clone, Copy, Debug, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum Policy {
    /// It is closed with 1008
    Close,
    /// It is closed with 1013, try again later
    #[value(name = "close-1013")]
    #[serde(rename = "close-1013")]
    CloseTryAgain,
    /// The oldest messages to it are dropped until there is room
    DropOldest,
    /// New messages to it are dropped until it has caught up
    DropNewest,
    /// A new message to it replaces those that wait
    Conflate,
}

/// What happens to slow readers of some topics.
#[derive(Clone, Debug, Eq, PartialEq)]
struct TopicPolicy(TopicRule);

impl FromStr for TopicPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no rule; `prices/>=conflate` is");
        // A pattern may end with `>`, and has no `=` by itself.
        let (pattern, policy) = text.rsplit_once('=').ok_or_else(wrong)?;
        let policy = Policy::from_str(policy, false).map_err(|_| wrong())?;
        Ok(Self(TopicRule {
            pattern: pattern.to_owned(),
            slow_consumer: policy.into(),
        }))
    }
}

impl<'de> Deserialize<'de> for TopicPolicy {
    fn deserialize<D: serde::Deserializer<'de>>(file: D) -> Result<Self, D::Error> {
        String::deserialize(file)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl From<Policy> for SlowConsumer {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Close => Self::Close,
            Policy::CloseTryAgain => Self::CloseTryAgain,
            Policy::DropOldest => Self::DropOldest,
            Policy::DropNewest => Self::DropNewest,
            Policy::Conflate => Self::Conflate,
        }
    }
}

/// Whether to do something.
#[derive(Clone, Copy, Debug, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum Switch {
    /// Do it
    On,
    /// Do not
    Off,
}

/// A value of `--origin`.
#[derive(Clone, Debug)]
enum Origin {
    Any,
    Same,
    Listed(OriginPattern),
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        match text.trim() {
            word if word.eq_ignore_ascii_case("any") => Ok(Self::Any),
            word if word.eq_ignore_ascii_case("same") => Ok(Self::Same),
            text => text.parse().map(Self::Listed),
        }
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum LogFormat {
    /// A line for people
    #[default]
    Text,
    /// A JSON object in each line
    Json,
}

/// Options with everything decided.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) listen: String,
    pub(super) admin: Option<String>,
    pub(super) publish_token: Option<String>,
    pub(super) config: Config,
    pub(super) log_format: LogFormat,
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("cannot read {path}: {error}")]
    Read {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("{path} is wrong: {error}")]
    Parse {
        path: PathBuf,
        error: Box<toml::de::Error>,
    },
}

impl Options {
    /// Fills in the file's values, then the defaults; of origins, these.
    pub(super) fn settle(self, origins: Origins) -> Result<Settled, FileError> {
        let file = match &self.config {
            Some(path) => read(path)?,
            None => Self::default(),
        };
        let default = Config::default();
        let span = |flag: Option<SpanOrOff>, file: Option<SpanOrOff>, default| match flag.or(file) {
            Some(SpanOrOff(span)) => span,
            None => default,
        };
        let config = Config {
            shards: match self.shards.or(file.shards) {
                Some(Shards::Count(count)) => Some(count),
                Some(Shards::Auto) | None => None,
            },
            max_connections: self.max_connections.or(file.max_connections),
            ping_interval: span(
                self.ping_interval,
                file.ping_interval,
                default.ping_interval,
            ),
            ping_timeout: span(self.ping_timeout, file.ping_timeout, default.ping_timeout),
            close_timeout: self
                .close_timeout
                .or(file.close_timeout)
                .map_or(default.close_timeout, |it| it.0),
            handshake_timeout: self
                .handshake_timeout
                .or(file.handshake_timeout)
                .map_or(default.handshake_timeout, |it| it.0),
            idle_timeout: span(self.idle_timeout, file.idle_timeout, default.idle_timeout),
            max_lifetime: span(self.max_lifetime, file.max_lifetime, default.max_lifetime),
            max_message_size: self
                .max_message_size
                .or(file.max_message_size)
                .map_or(default.max_message_size, |it| it.0),
            max_send_queue: self
                .max_send_queue
                .or(file.max_send_queue)
                .map_or(default.max_send_queue, |it| it.0),
            fanout_memory: self
                .fanout_memory
                .or(file.fanout_memory)
                .map_or(default.fanout_memory, |it| it.0),
            compression: match self.compression.or(file.compression) {
                Some(Switch::On) => Some(Deflate::default()),
                Some(Switch::Off) | None => None,
            },
            slow_consumer: self
                .slow_consumer
                .or(file.slow_consumer)
                .map_or(default.slow_consumer, Into::into),
            topics: self
                .topic_policy
                .or(file.topic_policy)
                .unwrap_or_default()
                .into_iter()
                .map(|it| it.0)
                .collect(),
            max_connections_per_address: self
                .max_connections_per_address
                .or(file.max_connections_per_address)
                .and_then(|it| it.0),
            max_accept_rate: self
                .max_accept_rate
                .or(file.max_accept_rate)
                .and_then(|it| it.0),
            max_message_rate: self
                .max_message_rate
                .or(file.max_message_rate)
                .and_then(|it| it.0),
            origins: self.origin.or(file.origin).map_or(origins, listed),
            drain: Drain {
                batch: self
                    .drain_batch
                    .or(file.drain_batch)
                    .unwrap_or(default.drain.batch),
                interval: self
                    .drain_interval
                    .or(file.drain_interval)
                    .map_or(default.drain.interval, |it| it.0),
                code: self
                    .drain_code
                    .or(file.drain_code)
                    .map_or(default.drain.code, CloseCode),
            },
            ..default
        };
        Ok(Settled {
            listen: self
                .listen
                .or(file.listen)
                .unwrap_or_else(|| "127.0.0.1:8080".to_owned()),
            publish_token: self.publish_token.or(file.publish_token),
            admin: self.admin.or(file.admin).filter(|address| address != "off"),
            config,
            log_format: self.log_format.or(file.log_format).unwrap_or_default(),
        })
    }
}

fn listed(origins: Vec<Origin>) -> Origins {
    let (mut same, mut others) = (false, Vec::new());
    for origin in origins {
        match origin {
            Origin::Any => return Origins::Any,
            Origin::Same => same = true,
            Origin::Listed(pattern) => others.push(pattern),
        }
    }
    Origins::Listed { same, others }
}

/// As a list, or as text in the form of the command line.
fn origins_in_file<'de, D: serde::Deserializer<'de>>(
    file: D,
) -> Result<Option<Vec<Origin>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        List(Vec<String>),
    }
    let texts = match Either::deserialize(file)? {
        Either::Text(text) => text.split(',').map(str::to_owned).collect(),
        Either::List(texts) => texts,
    };
    let origins = texts.iter().map(|text| text.parse());
    let origins: Result<Vec<Origin>, _> = origins.collect();
    origins.map(Some).map_err(serde::de::Error::custom)
}

fn read(path: &Path) -> Result<Options, FileError> {
    let text = std::fs::read_to_string(path).map_err(|error| FileError::Read {
        path: path.to_owned(),
        error,
    })?;
    toml::from_str(&text).map_err(|error| FileError::Parse {
        path: path.to_owned(),
        error: Box::new(error),
    })
}

fn shards(text: &str) -> Result<Shards, String> {
    match text {
        "auto" => Ok(Shards::Auto),
        _ => match text.parse() {
            Ok(count @ 1..) => Ok(Shards::Count(count)),
            Ok(0) | Err(_) => Err(format!(
                "`{text}` is no number of shards; 1 to 65535 and auto are"
            )),
        },
    }
}

/// As text in the form of the command line, or as a number.
fn shards_in_file<'de, D: serde::Deserializer<'de>>(file: D) -> Result<Option<Shards>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u16),
        Text(String),
    }
    let text = match Either::deserialize(file)? {
        Either::Number(count) => count.to_string(),
        Either::Text(text) => text,
    };
    shards(&text).map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use std::{io::Write, time::Duration};

    use super::*;

    fn with_file(text: &str, flags: Options) -> Result<Settled, FileError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Options {
            config: Some(file.path().to_owned()),
            ..flags
        }
        .settle(Origins::Any)
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
        assert_eq!(settled.listen, "127.0.0.1:8080");
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
            let settled = with_file(text, Options::default()).unwrap();
            assert_eq!(settled.config.origins, expected, "{text}");
        }
        let any = with_file("origin = ['https://a.example', 'Any']", Options::default()).unwrap();
        assert_eq!(any.config.origins, Origins::Any);
    }

    #[test]
    fn a_file_with_an_unknown_or_wrong_entry_is_refused_by_name() {
        for (text, told) in [
            ("pong-interval = '1s'", "unknown field `pong-interval`"),
            ("ping-interval = '1x'", "`1x` is no duration"),
            ("shards = 0", "`0` is no number of shards"),
            ("origin = 'https://a/'", "write https://a"),
            ("origin = ['same', '*']", "write any"),
            ("listen = ", "wrong"),
        ] {
            let error = with_file(text, Options::default()).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
