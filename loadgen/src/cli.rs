//! The command line.

mod common;
mod values;

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};

pub(crate) use self::{
    common::{Common, Deadlines},
    values::{count, duration, rate, share, size, span},
};
use crate::scenario::{
    self, churn, close_storm, connect, drain, echo, fanout, idle, scale, slow_consumers,
};

/// Load generator for WebSocket servers: measures latency, throughput, memory and CPU time
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Without a scenario, close-storm is run. `loadgen SCENARIO --help` describes the scenario, its \
                  options and the exit status."
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
    /// End all connections at the same moment, and measure how long the server takes
    #[command(long_about = close_storm::ABOUT, after_long_help = EXIT_STATUS)]
    CloseStorm(close_storm::Options),
    /// Open and end connections in many ways, and check that the server keeps nothing of them
    #[command(long_about = churn::ABOUT, after_long_help = EXIT_STATUS)]
    Churn(churn::Options),
    /// Open many connections in a short time, and measure how long each takes
    #[command(long_about = connect::ABOUT, after_long_help = EXIT_STATUS)]
    Connect(connect::Options),
    /// Shut the server down under load, and measure how it ends its connections
    #[command(long_about = drain::ABOUT, after_long_help = EXIT_STATUS)]
    Drain(drain::Options),
    /// Send messages that the server echoes, and measure latency, throughput and CPU time
    #[command(long_about = echo::ABOUT, after_long_help = EXIT_STATUS)]
    Echo(echo::Options),
    /// Publish to topics, and measure the time until each subscriber has each message
    #[command(long_about = fanout::ABOUT, after_long_help = EXIT_STATUS)]
    Fanout(fanout::Options),
    /// Hold idle connections, and measure the memory and the CPU time that they cost
    #[command(long_about = idle::ABOUT, after_long_help = EXIT_STATUS)]
    Idle(idle::Options),
    /// Hold a million connections: memory, keepalive, echo, broadcast and close
    #[command(long_about = scale::ABOUT, after_long_help = EXIT_STATUS)]
    Scale(scale::Options),
    /// Let some clients send without reading, and measure the effect on the others
    #[command(long_about = slow_consumers::ABOUT, after_long_help = EXIT_STATUS)]
    SlowConsumers(slow_consumers::Options),
}

/// What each scenario's help says of the exit status.
pub(crate) const EXIT_STATUS: &str = "\
Exit status:
  0    The run passed: every connection, every bound of the scenario and every gate is as \
expected.
  1    The run failed: a gate does not hold; messages were lost, altered, duplicated or \
reordered; connections ended unexpectedly; a bound of the scenario was exceeded; or the server \
did not start, refused connections or violated the protocol.
  2    The run is INVALID: the generator or its machine was the limit, so the figures do not \
describe the server. Or: the command line is wrong, this host lacks a requirement, or a file \
cannot be written.
  130  The run was interrupted.
       If both 1 and 2 apply, the status is 1, with one exception: if the run is INVALID, and \
only connections ended unexpectedly or bounds of the scenario were exceeded, the status is 2, \
because a late generator may be the reason.

A run is INVALID:
  1. If the server was busy for less than 80 % of the measured window, and
    - the generator's core was in use for 95 % of the window or more, by the generator, by other \
threads while the generator was ready to run, or by the host of a virtual machine, or
    - the generator's lateness was at least half of the reported latency, and at least 1 ms \
(99th percentiles).
    A server is busy while it is on a CPU or ready to run. A server that loadgen did not start \
counts as idle.
  2. If answers may have been unread for as long as the reported latency, and for at least 1 ms \
(`unread`, 99th percentiles).
  The report names the cause: the generator's own work, other work on this machine, or the host \
of this machine. These rules do not apply to a window below 20 ms, to a run in which the \
generator only waits, and to a bound that was met in spite of a late generator.

Gates (--assert, any number of them):
  NAME RELATION BOUND, such as protocol_error==0 or generator.busy<90%. With --baseline a bound \
can be a ratio to the baseline's value plus an absolute amount: generator.cpu_seconds<=1.15x+2s.
  NAME is a figure or an outcome of summary.json, or a latency followed by count, min, mean, \
p50, p90, p99, p99.9, p99.99 or max, such as LATENCY.p99. LATENCY.uncorrected.p99 counts from \
the send. Units are ns, us, ms, s, B, KiB, MiB, GiB, % and /s. A count has no unit. A share is a \
percentage or a fraction from 0 to 1. An unknown name is refused before the run, with a list of \
all names.

Files (--out DIR): summary.json, summary.md, junit.xml, NAME.hgrm and NAME.hlog (HdrHistogram) \
for each latency, and the plots percentiles.svg, rate.svg and course.svg.";

impl Cli {
    /// Reads the arguments, the first being the program's name; a wrong one ends the process with
    /// status 2.
    pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Scenario {
        let mut command = Self::with_negative_numbers(Self::command());
        let matches = command
            .try_get_matches_from_mut(arguments)
            .unwrap_or_else(|error| error.exit());
        let cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        let scenario = cli
            .scenario
            .unwrap_or(Scenario::CloseStorm(cli.close_storm));
        if let Err(message) = scenario.check() {
            let named = matches.subcommand_name();
            let command = match named.and_then(|name| command.find_subcommand_mut(name)) {
                Some(subcommand) => subcommand,
                None => &mut command,
            };
            command.error(ErrorKind::ArgumentConflict, message).exit();
        }
        scenario
    }

    /// Lets numbers be negative, so that the parser of each says what it may be; else `-5s` is told
    /// to be no option.
    fn with_negative_numbers(command: clap::Command) -> clap::Command {
        let is_number = |argument: &clap::Arg| {
            let names = argument.get_value_names().unwrap_or_default();
            let numbers = ["DURATION", "N", "SIZE", "SHARE"];
            names.iter().any(|name| numbers.contains(&name.as_str()))
        };
        let command = command.mut_args(|argument| {
            let is_number = is_number(&argument);
            match is_number {
                true => argument.allow_hyphen_values(true),
                false => argument,
            }
        });
        command.mut_subcommands(Self::with_negative_numbers)
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
    fn check(&self) -> Result<(), String> {
        self.common().check()?;
        scenario::needs(self).names.check(&self.common().gates)?;
        match self {
            Self::CloseStorm(options) => options.check(),
            Self::Drain(options) => options.check(),
            Self::Fanout(options) => options.check(),
            Self::Scale(options) => options.check(),
            Self::SlowConsumers(options) => options.check(),
            Self::Churn(_) | Self::Connect(_) | Self::Echo(_) | Self::Idle(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Gate;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn gates_of_help_and_advice_can_be_written_in_each_scenario() {
        let advice = "lost".parse::<Gate>().unwrap_err();
        let common = Cli::command();
        let help = common.get_arguments().find(|it| it.get_id() == "gates");
        let help = help.and_then(|it| it.get_help()).unwrap().to_string();
        let mut gates = Vec::new();
        for text in [EXIT_STATUS, &advice, &help] {
            let words = text.split([' ', '\'', '\n']);
            let words = words.map(|word| word.trim_end_matches(['.', ',', ':', ';']));
            gates.extend(
                words
                    .filter(|it| it.parse::<Gate>().is_ok())
                    .map(str::to_owned),
            );
        }
        assert!(gates.len() >= 6, "{gates:?}");
        for scenario in Cli::command().get_subcommands() {
            let mut arguments = vec!["loadgen", scenario.get_name()];
            for gate in &gates {
                arguments.extend(["--assert", gate]);
            }
            arguments.extend(["--baseline", "summary.json"]);
            let cli = Cli::try_parse_from(&arguments).unwrap();
            assert_eq!(cli.scenario.unwrap().check(), Ok(()), "{arguments:?}");
        }
        // Names depend on the settings; these must not.
        for mode in [
            &["echo", "--rate", "10"][..],
            &["fanout", "--in-flight", "2"],
            &["close-storm", "--mode", "reset"],
            &["close-storm", "--mode", "silent"],
            &["drain", "--restart"],
            &["drain", "--mute", "100%"],
        ] {
            let mut arguments = [&["loadgen"], mode].concat();
            for gate in &gates {
                arguments.extend(["--assert", gate]);
            }
            arguments.extend(["--baseline", "summary.json"]);
            let cli = Cli::try_parse_from(&arguments).unwrap();
            assert_eq!(cli.scenario.unwrap().check(), Ok(()), "{arguments:?}");
        }
    }

    #[test]
    fn the_example_of_the_readme_is_valid() {
        let readme = include_str!("../README.md");
        let (_, gates) = readme.split_once("\n## Gates\n").unwrap();
        let example = gates.split("```").nth(1).unwrap();
        let example = example.trim_start_matches("sh").replace(['\\', '\''], " ");
        let cli = Cli::try_parse_from(example.split_whitespace()).unwrap();
        let scenario = cli.scenario.unwrap();
        assert!(scenario.common().gates.len() >= 4);
        assert_eq!(scenario.check(), Ok(()));
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
