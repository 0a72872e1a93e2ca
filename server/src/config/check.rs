//! The check of a configuration.

use tidewheel_codec::CloseCode;

use super::{
    Config, InvalidConfig, TopicRule,
    bounds::{
        DEADLINE_MAX, DEADLINE_MIN, FANOUT_MEMORY_MIN, MEMORY_MAX, RECEIVE_BUFFER_SIZE,
        RECEIVE_BUFFERS_MAX, REQUEST_HEADERS, REQUEST_SIZE,
    },
};
use crate::topic::check_pattern;

impl Config {
    /// Checks that all settings are within their bounds.
    ///
    /// # Errors
    /// The first setting that is out of bounds.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        self.check_counts()?;
        for TopicRule { pattern, .. } in &self.topics {
            check_pattern(pattern).map_err(|error| InvalidConfig::TopicRule {
                pattern: pattern.clone(),
                error,
            })?;
        }
        self.check_deadlines()?;
        self.check_drain()?;
        self.check_memory()?;
        self.check_receiving()?;
        Ok(self.protocol().validate()?)
    }

    fn check_counts(&self) -> Result<(), InvalidConfig> {
        if self.shards == Some(0) {
            return Err(InvalidConfig::NoShards);
        }
        let shards = self.shards.unwrap_or(1);
        if let Some(got) = self.max_connections
            && got < u32::from(shards)
        {
            return Err(InvalidConfig::TooFewConnections { got, shards });
        }
        for (setting, is_zero) in [
            (
                "maximum connections per address",
                self.max_connections_per_address == Some(0),
            ),
            ("maximum accept rate", self.max_accept_rate == Some(0)),
            ("maximum message rate", self.max_message_rate == Some(0)),
            ("drain batch", self.drain.batch == 0),
            (
                "maximum tasks per connection",
                self.max_tasks_per_connection == 0,
            ),
        ] {
            if is_zero {
                return Err(InvalidConfig::Zero { setting });
            }
        }
        Ok(())
    }

    fn check_deadlines(&self) -> Result<(), InvalidConfig> {
        let ping_interval_min = tidewheel_codec::Config::PING_INTERVAL_MIN;
        for (setting, deadline, least) in [
            ("ping interval", self.ping_interval, ping_interval_min),
            ("ping timeout", self.ping_timeout, DEADLINE_MIN),
            ("close timeout", Some(self.close_timeout), DEADLINE_MIN),
            (
                "handshake timeout",
                Some(self.handshake_timeout),
                DEADLINE_MIN,
            ),
            ("idle timeout", self.idle_timeout, DEADLINE_MIN),
            ("maximum lifetime", self.max_lifetime, DEADLINE_MIN),
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
        if got > (close_timeout / 2).max(DEADLINE_MIN) {
            return Err(InvalidConfig::DrainInterval { got, close_timeout });
        }
        Ok(())
    }

    fn check_memory(&self) -> Result<(), InvalidConfig> {
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
        Ok(())
    }

    fn check_receiving(&self) -> Result<(), InvalidConfig> {
        let max_bytes = self.request_limits.max_bytes;
        let max_headers = self.request_limits.max_headers;
        if !REQUEST_SIZE.contains(&max_bytes) {
            return Err(InvalidConfig::RequestSize { got: max_bytes });
        }
        if !REQUEST_HEADERS.contains(&max_headers) {
            return Err(InvalidConfig::RequestHeaders { got: max_headers });
        }
        let got = self.receive_buffers;
        if !got.is_power_of_two() || got > RECEIVE_BUFFERS_MAX {
            return Err(InvalidConfig::ReceiveBuffers { got });
        }
        let got = self.receive_buffer_size;
        if !RECEIVE_BUFFER_SIZE.contains(&got) {
            return Err(InvalidConfig::ReceiveBufferSize { got });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_setting_at_its_bound_is_accepted_and_beyond_it_is_refused() {
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
        let memory = |text: &str| format!("{text} is 1099511627777 bytes; the maximum is 1024GiB");
        let refused = |error: &str| Err(error.to_owned());
        for (checked, expected) in [
            (with(&|it| it.max_message_size = 1), Ok(())),
            (
                with(&|it| it.max_message_size = 0),
                refused("the maximum message size is 0 bytes; the minimum is 1"),
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
                refused("the maximum request size is 255 bytes; the range is 256 to 1MiB"),
            ),
            (with(&|it| it.request_limits.max_bytes = 1 << 20), Ok(())),
            (
                with(&|it| it.request_limits.max_bytes = (1 << 20) + 1),
                refused("the maximum request size is 1048577 bytes; the range is 256 to 1MiB"),
            ),
            (with(&|it| it.request_limits.max_headers = 5), Ok(())),
            (
                with(&|it| it.request_limits.max_headers = 4),
                refused("the maximum number of request headers is 4; the range is 5 to 128"),
            ),
            (with(&|it| it.request_limits.max_headers = 128), Ok(())),
            (
                with(&|it| it.request_limits.max_headers = 129),
                refused("the maximum number of request headers is 129; the range is 5 to 128"),
            ),
            (drain(ms(500), ms(1000)), Ok(())),
            (drain(ms(0), ms(1000)), Ok(())),
            (drain(ms(1), ms(1)), Ok(())),
            (
                drain(ms(501), ms(1000)),
                refused(
                    "the drain interval is 501ms, and the close timeout is 1s; the maximum is half of the \
                     close timeout, within which a drain closes all connections",
                ),
            ),
            (
                drain(ms(10), ms(0)),
                refused("the close timeout is 0s; the minimum is 1ms"),
            ),
            (
                with(&|it| it.ping_interval = Some(ms(0))),
                refused("the ping interval is 0s; the minimum is 8ms"),
            ),
            (with(&|it| it.ping_interval = Some(ms(8))), Ok(())),
            (
                with(&|it| it.handshake_timeout = ms(0)),
                refused("the handshake timeout is 0s; the minimum is 1ms"),
            ),
            (with(&|it| it.max_lifetime = Some(DEADLINE_MAX)), Ok(())),
            (
                with(&|it| it.max_lifetime = Some(DEADLINE_MAX + ms(1500))),
                refused("the maximum lifetime is 31536001.5s; the maximum is 8760h, a year"),
            ),
            (
                with(&|it| it.max_send_queue = 0),
                refused("the maximum send queue is 0 bytes; the minimum is 1"),
            ),
            (with(&|it| it.fanout_memory = 1 << 20), Ok(())),
            (
                with(&|it| it.fanout_memory = 1 << 10),
                refused("the fanout memory is 1KiB; the minimum is 1MiB"),
            ),
            (
                with(&|it| it.drain.batch = 0),
                refused("the drain batch is 0; the minimum is 1"),
            ),
        ] {
            assert_eq!(checked, expected);
        }
    }
}
