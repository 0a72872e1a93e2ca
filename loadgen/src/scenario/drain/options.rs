//! Options of the drain.

use std::time::Duration;

use clap::Args;
use tidewheel::cli::units::Span;

use crate::options::{
    common::CommonOptions,
    values::{duration, rate, share},
};

/// Options of drain.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = crate::options::after_help::AFTER_HELP)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: CommonOptions,

    /// Time for which messages are sent before SIGTERM
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1s")]
    pub(super) lead: Duration,

    /// Messages to send in a second, over all clients
    #[arg(long, value_name = "N", value_parser = rate, default_value = "1000")]
    pub(super) rate: u32,

    /// Share of the clients that stop answering before SIGTERM
    #[arg(long, value_name = "SHARE", value_parser = share, default_value = "50%")]
    mute: f64,

    /// Start another server at the same address, and let the clients reconnect to it
    #[arg(long)]
    pub(super) restart: bool,

    /// Time within which the clients reconnect
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1s",
          requires = "restart")]
    pub(super) back_within: Duration,
}

impl Options {
    /// Checks that the options do not contradict each other.
    ///
    /// # Errors
    /// A message for the command line.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !self.common.server_is_started() {
            return Err(
                "drain ends the server, and so needs one that loadgen starts: omit --url, or add \
                 --server-cmd"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Returns how many of `clients` stop answering.
    pub(super) fn mute_count(&self, clients: usize) -> usize {
        (clients as f64 * self.mute).round() as usize
    }

    /// Returns the settings of the report.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("mute", format!("{:.0} %", self.mute * 100.0)),
            ("rate", format!("{}/s", self.rate)),
        ];
        if self.restart {
            settings.push(("back within", Span(self.back_within).to_string()));
        }
        settings
    }
}
