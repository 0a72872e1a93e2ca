//! The flags and variables that set options, as errors name them.

use std::collections::BTreeMap;

use clap::{ArgMatches, parser::ValueSource};

/// The flag or variable that set each option, by the name of the option.
#[derive(Debug, Default)]
pub(super) struct Sources(BTreeMap<String, String>);

impl Sources {
    /// The sources of the options of a parsed command.
    pub(super) fn of(matches: &ArgMatches) -> Self {
        let source = |id: &clap::Id| {
            let option = id.as_str().replace('_', "-");
            let name = match matches.value_source(id.as_str())? {
                ValueSource::EnvVariable => format!("--{option} ({})", variable(&option)),
                _ => format!("--{option}"),
            };
            Some((option, name))
        };
        Self(matches.ids().filter_map(source).collect())
    }

    /// The flag of an option, with its variable if that was the source; `None` if neither was given.
    pub(super) fn name(&self, option: &str) -> Option<&str> {
        self.0.get(option).map(String::as_str)
    }
}

/// The environment variable of an option.
pub(super) fn variable(option: &str) -> String {
    format!("TIDEWHEEL_{}", option.to_uppercase().replace('-', "_"))
}
