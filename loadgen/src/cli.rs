//! The command line.

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches, Parser, error::ErrorKind};

use crate::scenario::{Scenario, close_storm};

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

impl Cli {
    /// Parses the arguments, of which the first is the name of the program. A wrong argument ends the
    /// process with status 2.
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

    /// Allows negative numbers as values, so that the parser of the value rejects them; otherwise clap
    /// rejects `-5s` as an unknown option.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{options::after_help::AFTER_HELP, report::threshold::Threshold};

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn gates_in_help_and_error_messages_are_valid_in_each_scenario() {
        let message = "lost".parse::<Threshold>().unwrap_err();
        let common = Cli::command();
        let help = common.get_arguments().find(|it| it.get_id() == "gates");
        let help = help.and_then(|it| it.get_help()).unwrap().to_string();
        let mut gates = Vec::new();
        for text in [AFTER_HELP, &message, &help] {
            let words = text.split([' ', '\'', '\n']);
            let words = words.map(|word| word.trim_end_matches(['.', ',', ':', ';']));
            gates.extend(
                words
                    .filter(|it| it.parse::<Threshold>().is_ok())
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
        // Some names depend on options; the names in these gates do not.
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
    fn the_example_in_the_readme_is_valid() {
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
    fn options_of_close_storm_are_valid_without_the_name_of_the_scenario() {
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
