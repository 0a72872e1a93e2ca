//! The value of `TIDEWHEEL_LOG`: a level, or levels for single targets.

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// The variable that sets the levels of the log.
pub(in crate::cli) const VARIABLE: &str = "TIDEWHEEL_LOG";

/// The first part of every target.
const CRATE: &str = "tidewheel";

/// The targets of the log, below `tidewheel::`: explicit targets of events, and the modules of all other events.
const TARGETS: [&str; 15] = [
    "cli",
    "close",
    "control::admin",
    "driver",
    "handler",
    "handshake",
    "host",
    "listen",
    "remote",
    "ring::uring::release",
    "server::thread",
    "shard",
    "shard::accept",
    "shard::inbox",
    "shard::visit",
];

/// Maximum edit distance at which the first part of a target is taken for a misspelt [`CRATE`].
const EDIT_DISTANCE_MAX: usize = 2;

/// A wrong value of `TIDEWHEEL_LOG`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(in crate::cli) enum InvalidFilter {
    #[error(
        "{VARIABLE}: `{text}` is not a log level; write off, error, warn, info, debug or trace, or a target \
         with a level, such as tidewheel::close=debug; separate several with commas"
    )]
    Level { text: String },
    #[error(
        "{VARIABLE}: `{text}` is not a log target; write tidewheel or tidewheel::NAME, where NAME is {}",
        targets()
    )]
    Target { text: String },
    #[error("{VARIABLE}: `{text}` is not valid; write {suggestion}")]
    Suggestion { text: String, suggestion: String },
    #[error(
        "{VARIABLE}: separate targets with commas, and the parts of a name with `::`; `{text}` has another \
         separator"
    )]
    Separator { text: String },
    #[error("{VARIABLE}: there is an extra comma in `{value}`")]
    Comma { value: String },
    #[error("{VARIABLE}: there are two levels without a target in `{value}`; write one")]
    Levels { value: String },
}

/// All targets, as a list in a sentence.
fn targets() -> String {
    let (last, others) = TARGETS.split_last().expect("there are targets");
    format!("{} or {last}", others.join(", "))
}

/// The level that is probably meant by another word.
fn suggested_level(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "warning" => Some("warn"),
        "err" => Some("error"),
        "none" | "false" => Some("off"),
        _ => None,
    }
}

/// The error for a wrong level. `prefix` is the target and the `=` before it, or empty.
fn invalid_level(text: &str, prefix: &str) -> InvalidFilter {
    match suggested_level(text) {
        Some(level) => InvalidFilter::Suggestion {
            text: text.to_owned(),
            suggestion: format!("{prefix}{level}"),
        },
        None => InvalidFilter::Level {
            text: text.to_owned(),
        },
    }
}

/// Whether a text has the form of a target: names separated by `::`.
fn is_name(text: &str) -> bool {
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    text.split("::")
        .all(|module| module.chars().all(is_in_name))
}

/// Whether a text is the word for a level. `EnvFilter` also takes numbers, which are not accepted here.
fn is_level(text: &str) -> bool {
    let is_word = text.chars().all(|c| c.is_ascii_alphabetic());
    is_word && !text.is_empty() && text.parse::<LevelFilter>().is_ok()
}

/// Whether the first part of a target is [`CRATE`] or a misspelling of it.
fn names_this_crate(target: &str) -> bool {
    let crate_name = target.split("::").next().unwrap_or_default().to_lowercase();
    strsim::damerau_levenshtein(&crate_name, CRATE) <= EDIT_DISTANCE_MAX
}

/// Checks a target. Targets of other crates are accepted, because they are not known here.
fn check_target(name: &str, level: &str) -> Result<(), InvalidFilter> {
    let below = name
        .strip_prefix(CRATE)
        .and_then(|it| it.strip_prefix("::"));
    let is_prefix = |target: &str, known: &str| {
        let rest = known.strip_prefix(target);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let is_known = below.is_some_and(|target| TARGETS.iter().any(|known| is_prefix(target, known)));
    let without_crate = TARGETS.iter().find(|target| {
        let rest = target.strip_suffix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with("::"))
    });
    if let Some(target) = without_crate {
        return Err(InvalidFilter::Suggestion {
            text: format!("{name}={level}"),
            suggestion: format!("{CRATE}::{target}={level}"),
        });
    }
    match name == CRATE || is_known || !names_this_crate(name) {
        true => Ok(()),
        false => Err(InvalidFilter::Target {
            text: name.to_owned(),
        }),
    }
}

/// Parses a value of `TIDEWHEEL_LOG`. An empty one stands for `info`.
///
/// # Errors
/// If a level or a target is wrong. `EnvFilter` would ignore most of these mistakes.
pub(super) fn parse(value: &str) -> Result<EnvFilter, InvalidFilter> {
    if value.trim().is_empty() {
        return Ok(EnvFilter::new("info"));
    }
    let parts = value.split(',').map(str::trim);
    // The fields of a span may contain commas: such a value is left to `EnvFilter`.
    let has_spans = value.contains(['[', '{']);
    let mut levels = 0;
    for part in parts.clone().filter(|_| !has_spans) {
        let (name, level) = match part.split_once('=') {
            Some((name, level)) => (name, Some(level)),
            None => (part, None),
        };
        if part.is_empty() {
            return Err(InvalidFilter::Comma {
                value: value.to_owned(),
            });
        }
        if !is_name(name) || level.is_some_and(|level| !is_name(level)) {
            return Err(InvalidFilter::Separator {
                text: part.to_owned(),
            });
        }
        match level {
            Some(level) if is_level(level) => check_target(name, level)?,
            Some(level) => return Err(invalid_level(level, &format!("{name}="))),
            None if is_level(part) => levels += 1,
            None if names_this_crate(part) => check_target(part, "debug")?,
            // `EnvFilter` would take any other word for the name of a crate.
            None => return Err(invalid_level(part, "")),
        }
    }
    if levels > 1 {
        return Err(InvalidFilter::Levels {
            value: value.to_owned(),
        });
    }
    let filter = parts.collect::<Vec<_>>().join(",");
    EnvFilter::builder()
        .parse(&filter)
        .map_err(|_| InvalidFilter::Level { text: filter })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    #[test]
    fn levels_and_targets_with_levels_are_accepted() {
        for (value, expected) in [
            ("", "info"),
            (" ", "info"),
            ("off", "off"),
            ("error", "error"),
            ("warn", "warn"),
            ("info", "info"),
            ("debug", "debug"),
            ("TRACE", "trace"),
            (" Debug ", "debug"),
            ("tidewheel::close=debug", "tidewheel::close=debug"),
            ("tidewheel", "tidewheel=trace"),
            ("tidewheel::close", "tidewheel::close=trace"),
            ("chat=trace", "chat=trace"),
            ("tidewheel_chat::room=trace", "tidewheel_chat::room=trace"),
            ("wheel=trace", "wheel=trace"),
            ("tidewheel::shard=warn", "tidewheel::shard=warn"),
            (
                "tidewheel::shard::inbox=warn",
                "tidewheel::shard::inbox=warn",
            ),
            ("tidewheel::ring::uring=off", "tidewheel::ring::uring=off"),
            (
                "info, tidewheel::close=debug",
                "tidewheel::close=debug,info",
            ),
        ] {
            let filter = parse(value).unwrap();
            assert_eq!(filter.to_string(), expected, "{value}");
        }
    }

    #[test]
    fn the_error_for_a_wrong_level_names_it() {
        for (value, text) in [
            ("verbose", "verbose"),
            ("info, loud", "loud"),
            ("tidewheel::close=loud", "loud"),
            ("tidewheel::close=", ""),
            ("info,tidewheel::close=loud", "loud"),
            ("[span{field=", "[span{field="),
            ("true", "true"),
            ("6", "6"),
            ("2", "2"),
            ("0", "0"),
            ("info,chat=2", "2"),
            ("tidewheel::close=2", "2"),
            ("chat", "chat"),
        ] {
            let error = parse(value).map(|it| it.to_string()).unwrap_err();
            let expected = format!(
                "TIDEWHEEL_LOG: `{text}` is not a log level; write off, error, warn, info, "
            );
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn the_error_for_a_common_mistake_says_what_to_write() {
        for (value, expected) in [
            ("warning", "`warning` is not valid; write warn"),
            ("chat=err", "`err` is not valid; write chat=error"),
            ("info,", "there is an extra comma in `info,`"),
            ("info,,debug", "there is an extra comma in `info,,debug`"),
            (
                "warn,error",
                "there are two levels without a target in `warn,error`; write one",
            ),
            (
                "info,close=debug",
                "`close=debug` is not valid; write tidewheel::close=debug",
            ),
            (
                "uring::release=warn",
                "`uring::release=warn` is not valid; write tidewheel::ring::uring::release=warn",
            ),
        ] {
            let error = parse(value).map(|it| it.to_string()).unwrap_err();
            assert_eq!(error.to_string(), format!("TIDEWHEEL_LOG: {expected}"));
        }
        for value in [
            "info;debug",
            "info;tidewheel::close=debug",
            "info,tidewheel:close=debug",
            "info:tidewheel=debug",
            "info tidewheel::close=debug",
            "tidewheel::close=debug;warn",
        ] {
            let error = parse(value).map(|it| it.to_string()).unwrap_err();
            let expected =
                "TIDEWHEEL_LOG: separate targets with commas, and the parts of a name with `::`; ";
            assert!(error.to_string().starts_with(expected), "{value}: {error}");
        }
    }

    #[test]
    fn the_error_for_an_unknown_target_lists_all_targets() {
        for (value, target) in [
            ("tidewheel::clsoe=debug", "tidewheel::clsoe"),
            ("tidewheel::clsoe", "tidewheel::clsoe"),
            ("info,tidewheel::cl=debug", "tidewheel::cl"),
            ("tidewheel::shard::inbxo=debug", "tidewheel::shard::inbxo"),
            ("tidewheel::close::now=debug", "tidewheel::close::now"),
            ("tidewheel::=debug", "tidewheel::"),
            ("tidewheell=debug", "tidewheell"),
            ("tidewheell", "tidewheell"),
            ("tidewhele::close=debug", "tidewhele::close"),
            ("Tidewheel=debug", "Tidewheel"),
        ] {
            let error = parse(value).map(|it| it.to_string()).unwrap_err();
            let expected = format!(
                "TIDEWHEEL_LOG: `{target}` is not a log target; write tidewheel or tidewheel::NAME, where \
                 NAME is cli, close, "
            );
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }

    /// Adds the targets that the source in a directory logs to. `module` is the path of the directory.
    fn logged_targets(directory: &Path, module: &str, targets: &mut BTreeSet<String>) {
        for entry in directory.read_dir().unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let module = match module {
                "" => name.to_owned(),
                parent => format!("{parent}::{name}"),
            };
            if path.is_dir() {
                logged_targets(&path, &module, targets);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("\nmod tests {").next().unwrap();
            for level in ["error", "warn", "info", "debug", "trace"] {
                for event in code.split(&format!("tracing::{level}!(")).skip(1) {
                    let target = event.trim_start().strip_prefix("target: \"tidewheel::");
                    let target = target.and_then(|it| it.split('"').next());
                    targets.insert(target.unwrap_or(&module).to_owned());
                }
            }
        }
    }

    #[test]
    fn the_targets_are_those_that_the_source_logs_to() {
        let mut targets = BTreeSet::new();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        logged_targets(&source, "", &mut targets);
        assert_eq!(TARGETS.map(str::to_owned).to_vec(), Vec::from_iter(targets));
    }
}
