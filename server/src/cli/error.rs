//! Errors of the command line, which name the flag, variable or file entry at fault.

use std::path::PathBuf;

use crate::{Error, InvalidConfig, ring::RingError};

/// An option that cannot be read, or has a wrong value.
#[derive(Debug, thiserror::Error)]
pub(super) enum OptionsError {
    #[error("{source_name}: cannot read {path}: {error}")]
    Read {
        /// The flag or variable that names the file.
        source_name: String,
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("{path} cannot be parsed: {error}{hint}")]
    Syntax {
        path: PathBuf,
        error: Box<toml::de::Error>,
        /// Advice in a line of its own, or empty.
        hint: String,
    },
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    #[error("{source_name}: {message}")]
    Value {
        /// The flag, variable or file entry that sets the value.
        source_name: String,
        message: String,
    },
}

/// An error of the server, with the option that causes it if there is one.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    /// An address cannot be listened on.
    #[error("{source_name}: {error}")]
    Address {
        /// The flag, variable or file entry that sets the address.
        source_name: String,
        error: Error,
    },
    #[error("{0}{hint}", hint = option_hint(.0))]
    Server(#[from] Error),
}

/// The option that a message about the number of shards is about.
fn option_hint(error: &Error) -> &'static str {
    let memory = |error: &RingError| matches!(error, RingError::Memory { .. });
    let is_about_shards = matches!(error, Error::Descriptors { .. })
        || matches!(error, Error::Ring { error, .. } if memory(error));
    match is_about_shards {
        true => "; --shards sets the number of shards",
        false => "",
    }
}
