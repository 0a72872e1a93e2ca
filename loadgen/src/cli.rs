//! The command line.

mod common;
mod values;

use std::ffi::OsString;

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

pub(crate) use self::{
    common::{Common, Deadlines},
    values::{count, duration, rate, share, size},
};
use crate::scenario::{
    churn, close_storm, connect, drain, echo, fanout, idle, scale, slow_consumers,
};

/// Opens very many WebSocket connections and measures what the server makes of them
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Without a scenario: close-storm. `loadgen SCENARIO --help` tells what it \
                  measures, and what the exit status means."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    scenario: Option<Scenario>,
    #[command(flatten)]
    close_storm: close_storm::Options,
}

/// What to run.
#[derive(Debug, Subcommand)]
pub(crate) enum Scenario {
    /// Open connections, end them all at the same moment, and measure how long the server takes
    #[command(long_about = close_storm::ABOUT, after_long_help = EXIT_STATUS)]
    CloseStorm(close_storm::Options),
    /// Let connections come and go in all ways for a while; nothing of them may stay
    #[command(long_about = churn::ABOUT, after_long_help = EXIT_STATUS)]
    Churn(churn::Options),
    /// Open very many connections at once, and measure how long each takes
    #[command(long_about = connect::ABOUT, after_long_help = EXIT_STATUS)]
    Connect(connect::Options),
    /// Tell the server to end while it is under load, and measure how it takes leave
    #[command(long_about = drain::ABOUT, after_long_help = EXIT_STATUS)]
    Drain(drain::Options),
    /// Send messages that come back, and measure how long each takes and what it costs
    #[command(long_about = echo::ABOUT, after_long_help = EXIT_STATUS)]
    Echo(echo::Options),
    /// Publish to topics, and measure how long it takes until each subscriber has each message
    #[command(long_about = fanout::ABOUT, after_long_help = EXIT_STATUS)]
    Fanout(fanout::Options),
    /// Hold connections, and measure what each of them costs
    #[command(long_about = idle::ABOUT, after_long_help = EXIT_STATUS)]
    Idle(idle::Options),
    /// Hold a million connections: their memory, keepalive, an echo sweep, and a close storm
    #[command(long_about = scale::ABOUT, after_long_help = EXIT_STATUS)]
    Scale(scale::Options),
    /// Let some clients send and not read, and measure whether the others notice
    #[command(long_about = slow_consumers::ABOUT, after_long_help = EXIT_STATUS)]
    SlowConsumers(slow_consumers::Options),
}

/// What each scenario's help says of the exit status.
pub(crate) const EXIT_STATUS: &str = "\
Exit status:
  0    Everything was as asked for, and every gate holds.
  1    Something was not (connections that ended otherwise, a bound that was not kept, a gate), or \
the server did not start.
  2    INVALID: the run says nothing about the server. Either the generator was the limit, or the \
command line is wrong, or this host lacks what is needed.
       The generator was the limit if the server was busy for less than 80 % of the window measured \
(busy: on a CPU, or ready while others had it; unknown with --url, so taken for idle), and
         - the generator was busy for 95 % of it or more, or
         - half of the latency reported, or more, was its own lateness, and that was 1 ms or more \
(99th percentiles).
       It was, too, however busy the server was, if answers may have lain unread for as long as the \
latency reported, and for 1 ms or more (`unread`, 99th percentiles; open loop).
       Not judged are a window below 20 ms, which is too short to tell, runs in which the generator \
only waits, and a bound that was kept however late it was.
  130  Interrupted.

Gates (--assert, any number of them):
  NAME RELATION BOUND, such as close.p99.9<50ms, lost==0, server.bytes_per_connection<200, or \
against --baseline with a ratio and a floor together: echo.p99<=1.15x+2ms.
  NAME is a figure or an outcome as summary.json (--json) has it, or a latency with one of count, \
min, mean, p50, p90, p99, p99.9, p99.99, max; `uncorrected.` before the latter takes the one from \
the send. Units are ns, us, ms, s, B, KiB, MiB, %.

Files (--out DIR): summary.json, summary.md, junit.xml, for each latency NAME.hgrm and NAME.hlog \
(HdrHistogram), and the plots percentiles.svg, rate.svg and course.svg.";

impl Cli {
    /// Reads the arguments, the first being the program's name; a wrong one ends the process with
    /// status 2.
    pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Scenario {
        let cli = Self::parse_from(arguments);
        let scenario = cli
            .scenario
            .unwrap_or(Scenario::CloseStorm(cli.close_storm));
        if let Err(message) = scenario.check() {
            Self::command()
                .error(ErrorKind::ArgumentConflict, message)
                .exit();
        }
        scenario
    }
}

impl Scenario {
    /// The options that all scenarios have.
    pub(crate) const fn common(&self) -> &Common {
        match self {
            Self::CloseStorm(options) => &options.common,
            Self::Churn(options) => &options.common,
            Self::Connect(options) => &options.common,
            Self::Drain(options) => &options.common,
            Self::Echo(options) => &options.common,
            Self::Fanout(options) => &options.common,
            Self::Idle(options) => &options.common,
            Self::Scale(options) => &options.common,
            Self::SlowConsumers(options) => &options.common,
        }
    }

    /// Whether the options make sense together.
    fn check(&self) -> Result<(), &'static str> {
        self.common().check()?;
        match self {
            Self::CloseStorm(options) => options.check(),
            Self::Fanout(options) => options.check(),
            Self::Churn(_)
            | Self::Connect(_)
            | Self::Drain(_)
            | Self::Echo(_)
            | Self::Idle(_)
            | Self::Scale(_)
            | Self::SlowConsumers(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_go_with_and_without_the_name_of_the_scenario() {
        let bare = Cli::try_parse_from(["loadgen", "--mode", "reset"]).unwrap();
        assert!(bare.scenario.is_none());
        assert_eq!(bare.close_storm.mode, close_storm::Mode::Reset);
        let named = Cli::try_parse_from(["loadgen", "close-storm", "--mode", "silent"]).unwrap();
        let Some(Scenario::CloseStorm(options)) = named.scenario else {
            panic!("the scenario was named");
        };
        assert_eq!(options.mode, close_storm::Mode::Silent);
    }
}
