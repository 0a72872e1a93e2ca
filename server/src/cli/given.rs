//! The flags and variables that set options: errors name them.

use std::collections::BTreeMap;

use clap::{ArgMatches, parser::ValueSource};

/// The flags and variables that options were set by, by the name of the option.
#[derive(Debug, Default)]
pub(super) struct Given(BTreeMap<String, String>);

impl Given {
    /// Those of a command.
    pub(super) fn of(matches: &ArgMatches) -> Self {
        let place = |id: &clap::Id| {
            let option = id.as_str().replace('_', "-");
            let place = match matches.value_source(id.as_str())? {
                ValueSource::EnvVariable => format!("--{option} ({})", variable(&option)),
                _ => format!("--{option}"),
            };
            Some((option, place))
        };
        Self(matches.ids().filter_map(place).collect())
    }

    /// The flag, with the variable if that was the source; `None` if neither was given.
    pub(super) fn place(&self, option: &str) -> Option<&str> {
        self.0.get(option).map(String::as_str)
    }
}

/// The variable of an option.
pub(super) fn variable(option: &str) -> String {
    format!("TIDEWHEEL_{}", option.to_uppercase().replace('-', "_"))
}
