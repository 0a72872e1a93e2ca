//! The file of `--config`.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::Deserialize as _;

use super::{command::command, environment::nearest, error::OptionsError, options::Options};

/// A parsed configuration file. By default an empty one without a path.
#[derive(Debug, Default)]
pub(super) struct File {
    path: PathBuf,
    entries: toml::Table,
    pub(super) options: Options,
}

impl File {
    /// Reads a file. `source_name` is the flag or variable that names it.
    ///
    /// # Errors
    /// If it cannot be read or parsed, or has an unknown entry or a wrong value.
    pub(super) fn read(path: &Path, source_name: &str) -> Result<Self, OptionsError> {
        let text = read(path).map_err(|error| OptionsError::Read {
            source_name: source_name.to_owned(),
            path: path.to_owned(),
            error,
        })?;
        let entries = toml::from_str(&text).map_err(|error| syntax_error(path, &text, error))?;
        let mut file = Self {
            path: path.to_owned(),
            entries,
            options: Options::default(),
        };
        let mut options = Options::default();
        for (key, value) in &file.entries {
            if let Some(message) = unknown_key_advice(key, value) {
                return Err(OptionsError::Value {
                    source_name: entry_name(path, key),
                    message,
                });
            }
            match parse_entry(key, value) {
                Ok(entry) => options = options.or(entry),
                Err(error) => {
                    return Err(OptionsError::Value {
                        source_name: entry_name(path, key),
                        message: with_quotes_hint(error.message(), value),
                    });
                }
            }
        }
        file.options = options;
        Ok(file)
    }

    /// The path and the key of an entry; `None` if there is no such entry.
    pub(super) fn entry_name(&self, key: &str) -> Option<String> {
        self.entries
            .contains_key(key)
            .then(|| entry_name(&self.path, key))
    }
}

/// An entry of a file, as errors name it.
fn entry_name(path: &Path, key: &str) -> String {
    format!("{}: {key}", path.display())
}

/// The entry whose value is not part of any error.
const SECRET: &str = "publish-token";

const FILE_BYTES_MAX: u64 = 1 << 20;

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("the file is larger than 1 MiB"));
    }
    Ok(text)
}

/// Adds `(in quotes)` to advice on a value that has no quotes but needs them.
fn with_quotes_hint(message: &str, value: &toml::Value) -> String {
    let advice = message.split_once("; write ").map(|(_, advice)| advice);
    let has_quotes = value.is_str() || value.is_array();
    let is_number = |text: &str| {
        let word = text.split([' ', ',']).next().unwrap_or_default();
        word.parse::<u64>().is_ok()
    };
    match advice {
        Some(advice) if !has_quotes && !is_number(advice) => format!("{message} (in quotes)"),
        Some(_) | None => message.to_owned(),
    }
}

/// The options of a file with only this entry.
fn parse_entry(key: &str, value: &toml::Value) -> Result<Options, toml::de::Error> {
    let entry = [(key.to_owned(), value.clone())];
    Options::deserialize(toml::Table::from_iter(entry))
}

/// Advice for an unknown key, if there is any.
fn unknown_key_advice(key: &str, value: &toml::Value) -> Option<String> {
    let command = command();
    let options = command
        .find_subcommand("serve")?
        .get_arguments()
        .filter_map(clap::Arg::get_long)
        .filter(|it| *it != "config");
    let known: Vec<&str> = options.collect();
    if known.contains(&key) {
        return None;
    }
    if value.is_table() {
        let advice = "the file has no sections; remove the section header";
        return Some(advice.to_owned());
    }
    let mut name = String::new();
    for c in key.chars() {
        match c {
            '_' => name.push('-'),
            c if c.is_ascii_uppercase() => name.extend(['-', c.to_ascii_lowercase()]),
            c => name.push(c),
        }
    }
    if matches!(name.as_str(), "log" | "log-level" | "verbose") {
        let advice =
            "the variable TIDEWHEEL_LOG sets the level of the log, as in TIDEWHEEL_LOG=debug";
        return Some(advice.to_owned());
    }
    let suggestion = nearest(&name, known.into_iter())?;
    Some(format!(
        "there is no such option; did you mean {suggestion}?"
    ))
}

/// An error of syntax, with advice if a text lacks quotes. Does not contain the value of [`SECRET`].
fn syntax_error(path: &Path, text: &str, error: toml::de::Error) -> OptionsError {
    let at = error.span().map_or(0, |span| span.start);
    let before = text.get(..at).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    let (key, value) = line.split_once('=').unwrap_or_default();
    let (key, value) = (key.trim(), value.trim());
    if key.trim_matches(['"', '\'']) == SECRET {
        return OptionsError::Value {
            source_name: entry_name(path, SECRET),
            message: "the value is not a text in quotes".to_owned(),
        };
    }
    let has_quotes = !value.starts_with(|c: char| c.is_alphanumeric());
    let hint = match has_quotes || key.is_empty() || error.message().contains("duplicate") {
        true => String::new(),
        false => format!("\na text needs quotes: {key} = \"{value}\""),
    };
    OptionsError::Syntax {
        path: path.to_owned(),
        error: Box::new(error),
        hint,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::{
        Origins,
        cli::{settings::Settings, sources::Sources},
    };

    fn error_of(text: &str) -> String {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let mut options = Options::default();
        options.config.replace(file.path().to_owned());
        let settings = Settings::resolve(options, Origins::Any, &Sources::default());
        settings.unwrap_err().to_string()
    }

    #[test]
    fn the_error_for_an_unknown_or_wrong_entry_names_the_file_and_the_key_and_the_value() {
        for (text, expected) in [
            (
                "pong-interval = '1s'",
                "pong-interval: there is no such option; did you mean ping-interval?",
            ),
            (
                "maxMessageSize = 1",
                "maxMessageSize: there is no such option; did you mean max-message-size?",
            ),
            (
                "drain_code = 1001",
                "drain_code: there is no such option; did you mean drain-code?",
            ),
            ("zzz = 1", "zzz: unknown field `zzz`, expected one of"),
            (
                "log = 'debug'",
                "log: the variable TIDEWHEEL_LOG sets the level of the log",
            ),
            ("[server]\nshards = 1", "server: the file has no sections"),
            (
                "ping-interval = '1x'",
                "ping-interval: `1x` is not a duration; write 20s, ",
            ),
            (
                "ping-interval = 15",
                "ping-interval: `15` has no unit; write 15s or 15ms, or off (in quotes)",
            ),
            (
                "close-timeout = 1.5",
                "close-timeout: `1.5` has no unit; write 1.5s or 1.5ms (in quotes)",
            ),
            (
                "listen = 8080",
                "listen: `8080` has no host; write 127.0.0.1:8080, or 0.0.0.0:8080",
            ),
            (
                "listen = ':8080'",
                "listen: `:8080` has no host; write 127.0.0.1:8080, or ",
            ),
            (
                "admin = 'localhost'",
                "admin: `localhost` has no port; write localhost:9090",
            ),
            (
                "admin = true",
                "admin: `true` is not an address; write 127.0.0.1:9090, or ",
            ),
            (
                "shards = 0",
                "shards: `0` is not a number of shards; write 1 to 65535, or auto",
            ),
            (
                "origin = 'https://a/'",
                "origin: `https://a/` is not an origin; write https://a",
            ),
            (
                "origin = ['same', '*']",
                "origin: `*` is not an origin; write any",
            ),
            (
                "origin = 'a,b'",
                "origin: `a` is not an origin; write https://a",
            ),
            (
                "topic-policy = 'a'",
                "topic-policy: `a` is not a topic policy; write a pattern and a policy",
            ),
            (
                "topic-policy = '/a=close'",
                "topic-policy: `/a` is not a topic pattern",
            ),
            (
                "compression = 'yes'",
                "compression: `yes` is unknown; write on or off",
            ),
            (
                "compression = 1",
                "compression: `1` is unknown; write on or off (in quotes)",
            ),
            (
                "max-message-size = '64k'",
                "max-message-size: `64k` is not a size; write 64KiB or 64000",
            ),
            (
                "max-message-size = 0",
                "max-message-size: the maximum message size is 0",
            ),
            (
                "max-request-size = 10",
                "max-request-size: the maximum request size is 10 bytes",
            ),
            (
                "drain-code = 1000",
                "drain-code: `1000` is not a drain code; write 1001 ",
            ),
            (
                "drain-interval = '1h'",
                "drain-interval: the drain interval is 1h",
            ),
            (
                "shards = 1\nhandshake-timeout = '0s'",
                "handshake-timeout: the handshake timeout is 0",
            ),
            (
                "max-connections = 1\nshards = 2",
                "max-connections: the maximum number of connections is 1; the minimum is one for each of 2",
            ),
            (
                "close-timeout = '500ms'\ndrain-interval = '300ms'",
                "drain-interval: the drain interval is 300ms, and the close timeout is 500ms",
            ),
            (
                "publish-token = ''",
                "publish-token: the publish token is empty",
            ),
            (
                "ping-interval = 'off'\nping-timeout = '1s'",
                "ping-timeout: the ping timeout has no effect, because the ping interval is off",
            ),
            (
                "ping-interval = ['1s']",
                "ping-interval: the option has one value; write it without brackets",
            ),
            (
                "subprotocol = 7",
                "subprotocol: invalid type: integer `7`, expected a list of texts",
            ),
        ] {
            let error = error_of(text);
            let (_, after) = error
                .split_once(": ")
                .expect("the error begins with the file name");
            assert!(after.starts_with(expected), "{text}: {error}");
        }
        for text in ["origin = ['*']", "listen = '8080'", "drain-code = 1000"] {
            let error = error_of(text);
            assert!(!error.contains("in quotes"), "{text}: {error}");
        }
    }

    #[test]
    fn the_error_for_a_text_without_quotes_shows_the_quotes() {
        for (text, hint) in [
            (
                "listen = 127.0.0.1:8080",
                Some("listen = \"127.0.0.1:8080\""),
            ),
            (
                "shards = 1\nping-interval = 15s",
                Some("ping-interval = \"15s\""),
            ),
            ("origin = same\nshards = 1", Some("origin = \"same\"")),
            ("listen = ", None),
            ("= 3", None),
            ("ping-interval", None),
            ("listen = 'a", None),
        ] {
            let error = error_of(text);
            assert!(error.contains(" cannot be parsed: "), "{error}");
            let advice = error.split_once("a text needs quotes: ");
            assert_eq!(advice.map(|(_, advice)| advice), hint, "{text}");
        }
    }

    #[test]
    fn the_error_for_a_token_without_quotes_does_not_contain_the_token() {
        for text in [
            "publish-token = s3cret",
            "listen = '127.0.0.1:0'\npublish-token = s3cret # x",
            "'publish-token' = \"s3cret",
            "publish-token = ['s3cret']",
        ] {
            let error = error_of(text);
            assert!(error.contains("publish-token"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_file_of_more_than_1_mib_is_refused() {
        let error = File::read(Path::new("/dev/zero"), "--config")
            .unwrap_err()
            .to_string();
        assert!(error.contains("the file is larger than 1 MiB"), "{error}");
    }

    #[test]
    fn the_error_for_a_duplicate_key_does_not_suggest_quotes() {
        let error = error_of("compression = true\ncompression = false");
        assert!(error.contains("duplicate key"), "{error}");
        assert!(!error.contains("quotes"), "{error}");
    }
}
