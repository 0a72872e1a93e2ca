//! The settings of a run: flags and variables, then the file, then the defaults.

use std::sync::Arc;

use super::{
    choice::LogFormat,
    error::OptionsError,
    file::File,
    options::{Options, flat, option_of},
    sources::Sources,
};
use crate::{Config, Origins, PublishToken};

/// Every setting of a run, checked.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) listen: Address,
    /// `None`: there is no admin listener.
    pub(super) admin: Option<Address>,
    pub(super) publish_token: Option<PublishToken>,
    /// In order of preference.
    pub(super) subprotocols: Arc<[String]>,
    pub(super) config: Config,
    pub(super) log_format: LogFormat,
}

/// An address to listen on.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) text: String,
    /// The flag, variable or file entry that sets it.
    pub(super) source_name: String,
}

impl Settings {
    /// Reads the file of `--config`, and combines `options` with it and with the defaults. `origins` is the
    /// default of the command for `--origin`.
    ///
    /// # Errors
    /// If the file cannot be read, or a value is wrong. The error names the source of the value.
    pub(super) fn resolve(
        options: Options,
        origins: Origins,
        sources: &Sources,
    ) -> Result<Self, OptionsError> {
        let file = match &options.config {
            Some(path) => File::read(path, sources.name("config").unwrap_or("--config"))?,
            None => File::default(),
        };
        let source_name = |option: &str| match sources.name(option) {
            Some(name) => name.to_owned(),
            None => file.entry_name(option).unwrap_or(format!("--{option}")),
        };
        let wrong = |option: &str, message: String| OptionsError::Value {
            source_name: source_name(option),
            message,
        };
        let pings = options.check_pings(&file.options);
        pings.map_err(|error| wrong("ping-timeout", error.to_string()))?;
        let options = options.or(file.options.clone());
        for (option, is_redundant) in options.redundant() {
            if is_redundant {
                let message = "any includes every other value; leave the others out";
                return Err(wrong(option, message.to_owned()));
            }
        }
        let config = options.config(origins);
        let checked = config.check();
        checked.map_err(|error| match option_of(&error) {
            Some(option) => wrong(&option, error.to_string()),
            None => error.into(),
        })?;
        // Not checked by the parser, because a parser prints the wrong value, which is a secret.
        let token = options.publish_token.map(PublishToken::new).transpose();
        let token = token.map_err(|error| wrong("publish-token", error.to_string()))?;
        let address = |option: &str, text| Address {
            text,
            source_name: source_name(option),
        };
        let listen = options.listen.map(|it| it.0);
        let admin = options.admin.and_then(|it| it.0);
        let subprotocols = flat(options.subprotocol.unwrap_or_default());
        Ok(Self {
            listen: address("listen", listen.unwrap_or("127.0.0.1:8080".to_owned())),
            admin: admin.map(|text| address("admin", text)),
            publish_token: token,
            subprotocols: subprotocols.into_iter().map(|it| it.0).collect(),
            config,
            log_format: options.log_format.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, time::Duration};

    use super::*;
    use crate::{CloseCode, SlowConsumer, TopicRule};

    /// The settings of a file and of flags, which are written like a file.
    fn with_flags(text: &str, flags: &str) -> Result<Settings, OptionsError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let mut options: Options = toml::from_str(flags).unwrap();
        options.config = Some(file.path().to_owned());
        Settings::resolve(options, Origins::Any, &Sources::default())
    }

    fn settings(text: &str) -> Settings {
        with_flags(text, "").unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn flags_take_precedence_over_the_file_and_the_file_over_defaults() {
        let text =
            "ping-interval = '1s'\nping-timeout = '3s'\nshards = 2\nmax-message-size = '2KiB'";
        let settings = with_flags(text, "ping-interval = 'off'").unwrap();
        assert_eq!(settings.config.ping_interval, None);
        assert_eq!(settings.config.ping_timeout, Some(Duration::from_secs(3)));
        assert_eq!(settings.config.shards, Some(2));
        assert_eq!(settings.config.max_message_size, 2048);
        assert_eq!(settings.config.close_timeout, Duration::from_secs(10));
        assert_eq!(settings.listen.text, "127.0.0.1:8080");
    }

    #[test]
    fn the_origins_in_a_file_are_a_list_or_a_text_with_commas() {
        let expected = Origins::Listed {
            same: true,
            others: vec!["https://a.example".parse().unwrap()],
        };
        for text in [
            "origin = 'same, https://a.example'",
            "origin = ['Same', 'https://a.example:443']",
        ] {
            assert_eq!(settings(text).config.origins, expected, "{text}");
        }
        let any = settings("origin = ['Any']");
        assert_eq!(any.config.origins, Origins::Any);
        for text in [
            "origin = ['https://a.example', 'Any']",
            "host = 'any,a.example'",
        ] {
            let error = with_flags(text, "").unwrap_err().to_string();
            assert!(
                error.ends_with(": any includes every other value; leave the others out"),
                "{error}"
            );
        }
    }

    #[test]
    fn subprotocols_and_topic_policies_in_a_file_are_lists_or_texts_with_commas() {
        for text in [
            "subprotocol = 'v2, v1'",
            "subprotocol = ['v2', 'v1']",
            "subprotocol = [' v2 ', 'v1']",
        ] {
            assert_eq!(*settings(text).subprotocols, ["v2", "v1"], "{text}");
        }
        for text in ["", "subprotocol = []"] {
            assert!(settings(text).subprotocols.is_empty(), "{text}");
        }
        let expected = [
            TopicRule::new("a/>", SlowConsumer::Conflate),
            TopicRule::new("b", SlowConsumer::Close),
        ];
        for text in [
            "topic-policy = 'a/>=conflate, b=close'",
            "topic-policy = ['a/>=conflate', 'b = close']",
        ] {
            assert_eq!(settings(text).config.topics, expected, "{text}");
        }
    }

    #[test]
    fn numbers_and_booleans_in_a_file_are_read_with_and_without_quotes() {
        let is = |text: &str, expected: fn(&Config) -> bool| {
            assert!(expected(&settings(text).config), "{text}");
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
            let admin = settings(&format!("admin = {value}")).admin;
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
    fn a_ping_timeout_without_pings_is_refused() {
        let (interval_off, timeout) = ("ping-interval = 'off'", "ping-timeout = '1s'");
        let both = "ping-interval = 'off'\nping-timeout = '1s'";
        for (flags, file, is_allowed) in [
            ("", "", true),
            (timeout, "", true),
            (interval_off, "", true),
            ("ping-interval = 'off'\nping-timeout = 'off'", "", true),
            ("ping-interval = '1s'\nping-timeout = '1s'", "", true),
            (both, "", false),
            // A flag that disables pings also disables the timeout of the file.
            (interval_off, timeout, true),
            (both, timeout, false),
            ("", both, false),
            ("ping-interval = '1s'", both, true),
            ("ping-timeout = 'off'", both, true),
            (timeout, interval_off, false),
        ] {
            let is_accepted = with_flags(file, flags).is_ok();
            assert_eq!(is_accepted, is_allowed, "flags: {flags}; file: {file}");
        }
    }

    #[test]
    fn a_short_close_timeout_shortens_the_default_drain_interval() {
        let interval = |text| settings(text).config.drain.interval;
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
    fn the_error_for_a_wrong_publish_token_does_not_contain_the_token() {
        for (token, expected) in [
            ("''", "the publish token is empty"),
            ("'s3 cret'", "character 3 of the publish token"),
            ("'s3crét'", "character 5 of the publish token"),
            ("\"s3cret\\n\"", "character 7 of the publish token"),
        ] {
            let file = format!("publish-token = {token}");
            let error = with_flags(&file, "").unwrap_err().to_string();
            // The random file name may contain any letters.
            let (_, message) = error
                .split_once(": ")
                .expect("the error begins with the file name");
            assert!(message.contains(expected), "{message}");
            assert!(!message.contains("s3"), "{message}");
        }
        let settings = with_flags("publish-token = 's3cret'", "").unwrap();
        assert!(settings.publish_token.unwrap().matches(b"s3cret"));
    }
}
