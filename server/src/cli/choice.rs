//! Options whose value is one of a few words, in any case.

use std::str::FromStr;

use clap::ValueEnum;

use super::file_value;
use crate::{ProxyHeader, SlowConsumer};

/// The policy for a client that reads too slowly.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Policy {
    /// Close the connection with code 1008 (policy violation)
    #[value(alias = "close-1008")]
    Close,
    /// Close the connection with code 1013 (try again later)
    #[value(name = "close-1013")]
    CloseTryAgain,
    /// Drop the oldest queued messages until the queue has room
    DropOldest,
    /// Drop new messages while the queue is full
    DropNewest,
    /// Replace the queued messages of a topic by its newest message
    Conflate,
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

/// The header in which proxies name their clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum ForwardingHeader {
    /// X-Forwarded-For
    XForwardedFor,
    /// Forwarded (RFC 7239)
    Forwarded,
}

impl From<ForwardingHeader> for ProxyHeader {
    fn from(header: ForwardingHeader) -> Self {
        match header {
            ForwardingHeader::XForwardedFor => Self::XForwardedFor,
            ForwardingHeader::Forwarded => Self::Forwarded,
        }
    }
}

/// Whether to compress messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Switch {
    /// Compress messages
    #[value(alias = "true")]
    On,
    /// Send messages uncompressed
    #[value(alias = "false")]
    Off,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum LogFormat {
    /// One line of text per event
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

/// Parses a word in any case.
fn parse<T: ValueEnum>(text: &str) -> Result<T, String> {
    let text = text.trim();
    T::from_str(text, true).map_err(|_| {
        let values = T::value_variants().iter();
        let names: Vec<String> = values
            .filter_map(|value| Some(value.to_possible_value()?.get_name().to_owned()))
            .collect();
        let (last, others) = names.split_last().expect("an option has values");
        format!("`{text}` is unknown; write {} or {last}", others.join(", "))
    })
}

macro_rules! from_str {
    ($($name:ident),*) => {$(
        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                parse(text)
            }
        }
    )*};
}
from_str!(ForwardingHeader, Policy, Switch, LogFormat);
file_value::from_file!(ForwardingHeader, Policy, Switch, LogFormat);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_read_in_any_case_and_the_error_for_another_word_lists_all() {
        for on in ["on", "On", " true "] {
            assert_eq!(on.parse(), Ok(Switch::On), "{on}");
        }
        for off in ["off", "OFF", "False"] {
            assert_eq!(off.parse(), Ok(Switch::Off), "{off}");
        }
        assert_eq!("Drop-Oldest".parse(), Ok(Policy::DropOldest));
        assert_eq!("JSON".parse(), Ok(LogFormat::Json));
        for (error, expected) in [
            (
                "1".parse::<Switch>().unwrap_err(),
                "`1` is unknown; write on or off",
            ),
            (
                "".parse::<LogFormat>().unwrap_err(),
                "`` is unknown; write text or json",
            ),
            (
                "drop".parse::<Policy>().unwrap_err(),
                "`drop` is unknown; write close, close-1013, drop-oldest, drop-newest or conflate",
            ),
        ] {
            assert_eq!(error, expected);
        }
    }
}
