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

/// Opens very many WebSocket connections and measures what the server makes of them
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Without a scenario: close-storm. Without arguments a run of which the generator was \
                  the limit is repeated with the closes spread over a longer time. `loadgen SCENARIO --help` tells what it \
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
    /// Open very many connections in a short time, and measure how long each takes
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
  1    Something was not: a gate, messages that were lost, altered, doubled or out of order, \
connections that ended otherwise, a bound that was not kept, a server that did not start or broke \
the protocol.
  2    INVALID: the run says nothing about the server, because the generator or its machine was the \
limit. Or: the command line is wrong, this host lacks what is needed, or a file cannot be written.
  130  Interrupted.
       If both 1 and 2 apply, the status is 1. There is one exception: connections that ended \
otherwise and bounds of the scenario that were not kept are excused by INVALID, because a late \
generator may be the reason. A gate, messages, and a server that refuses connections or breaks the \
protocol are not.

When a run is INVALID:
  The generator had no time to spare if the server was busy for less than 80 % of the window \
measured (busy: on a CPU, or ready while others had it; unknown with --url, so taken for idle), and
    - for 95 % of it or more the generator's core was in use, by the generator, by other threads \
that it waited for, or by the host of a virtual machine, or
    - half of the latency reported, or more, was the generator's lateness, and that was 1 ms or more \
(99th percentiles).
  It had none either, however busy the server was, if answers may have lain unread for as long as \
the latency reported, and for 1 ms or more (`unread`, 99th percentiles; open loop).
  The report tells whose doing it was: the generator's own work, other work on this machine, or the \
host of this machine.
  Not judged are a window below 20 ms, which is too short to tell, runs in which the generator \
only waits, and a bound that was kept however late it was.

Gates (--assert, any number of them):
  NAME RELATION BOUND, such as protocol_error==0, generator.busy<90%, or against --baseline with \
a ratio and a floor together: generator.cpu_seconds<=1.15x+2s.
  NAME is a figure or an outcome as summary.json (--json) has it, or a latency with one of count, \
min, mean, p50, p90, p99, p99.9, p99.99, max, such as LATENCY.p99. LATENCY.uncorrected.p99 counts \
from the send, where the report has both. Units are ns, us, ms, s, B, KiB, MiB, GiB, % and /s; a count has none, and a share is a \
percentage or a fraction from 0 to 1. Before the run \
each gate is checked: a name that this run does not have is refused with a list of all that it has.

Files (--out DIR): summary.json, summary.md, junit.xml, for each latency NAME.hgrm and NAME.hlog \
(HdrHistogram), and the plots percentiles.svg, rate.svg and course.svg.";

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
