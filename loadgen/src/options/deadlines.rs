//! Options that give the deadlines of the server under test.

use std::time::Duration;

use clap::Args;

use crate::options::values::duration;

/// Deadlines of the server.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Deadlines {
    /// Ping interval of the server. A child is started with it; for the server of --url, give the
    /// value that it has [default of a child: 20s; in close-storm --mode silent and churn 1s, in
    /// idle 5s, in scale 60s]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Server")]
    pub(crate) ping_interval: Option<Duration>,

    /// Ping timeout of the server. A child is started with it; for the server of --url, give the
    /// value that it has [default of a child: 20s; in close-storm --mode silent and churn 1s]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Server")]
    pub(crate) ping_timeout: Option<Duration>,

    /// Close timeout of the server. A child is started with it; for the server of --url, give the
    /// value that it has [default of a child: 10s; in close-storm --mode silent and churn 1s, in
    /// drain 2s]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Server")]
    pub(crate) close_timeout: Option<Duration>,

    /// Handshake timeout of the server. A child is started with it; for the server of --url, give
    /// the value that it has [default of a child: 10s; in churn 1s]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Server")]
    pub(crate) handshake_timeout: Option<Duration>,
}

impl Deadlines {
    /// Replaces deadlines that are not given by `default`.
    pub(crate) fn or(self, default: Duration) -> Self {
        Self {
            ping_interval: self.ping_interval.or(Some(default)),
            ping_timeout: self.ping_timeout.or(Some(default)),
            close_timeout: self.close_timeout.or(Some(default)),
            handshake_timeout: self.handshake_timeout.or(Some(default)),
        }
    }

    /// Returns the options that [`silence_timeout`](Self::silence_timeout) needs and that are not given.
    pub(crate) fn missing_for_silence_timeout(self) -> Vec<&'static str> {
        let options = [
            ("--ping-interval", self.ping_interval),
            ("--ping-timeout", self.ping_timeout),
            ("--close-timeout", self.close_timeout),
        ];
        let missing = options
            .into_iter()
            .filter(|(_, deadline)| deadline.is_none());
        missing.map(|(option, _)| option).collect()
    }

    /// Returns the longest time until the server resets a silent client, plus `slack`, if all deadlines
    /// for it are known.
    pub(crate) fn silence_timeout(self, slack: Duration) -> Option<Duration> {
        [self.ping_interval, self.ping_timeout, self.close_timeout]
            .into_iter()
            .try_fold(slack, |sum, deadline| Some(sum + deadline?))
    }
}
