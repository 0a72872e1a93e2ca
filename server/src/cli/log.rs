//! The log on standard error, which never holds up the service and never ends it.
//!
//! Lines go to a thread that writes them. When it does not keep up, because nobody reads standard error,
//! or the write fails, because its reader has gone or a disk is full, lines are lost, and counted.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::values::LogFormat;

/// Says how much is logged.
pub(super) const VARIABLE: &str = "TIDEWHEEL_LOG";

/// The beginning of the name of each part of the log.
const CRATE: &str = "tidewheel";

/// The parts of the log, below `tidewheel::`: the targets of events, and the modules of events without one.
const PARTS: [&str; 15] = [
    "cli",
    "close",
    "control",
    "control::admin",
    "driver",
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

/// Wrong letters of a name that is meant for that of this crate, at most.
const TYPOS_MAX: usize = 2;

/// Lines that wait to be written; a line is of some hundred bytes, and of less than 2 KiB.
pub(crate) const LINES_MAX: usize = 4096;

/// How long the lines that wait at the end may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Lines that could not be written.
static FAILED: AtomicU64 = AtomicU64::new(0);

/// Lines for which there was no room.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Lines of the log that were lost.
pub(super) fn lines_lost() -> u64 {
    let dropped = DROPPED.get().map_or(0, ErrorCounter::dropped_lines);
    FAILED.load(Ordering::Relaxed) + dropped as u64
}

/// A value of `TIDEWHEEL_LOG` that says nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum InvalidFilter {
    #[error(
        "{VARIABLE}: `{text}` is no level; write off, error, warn, info, debug or trace, or a part with a \
         level, such as tidewheel::close=debug; several with commas between"
    )]
    Level { text: String },
    #[error(
        "{VARIABLE}: `{text}` is no part of the log; write tidewheel or tidewheel::NAME, where NAME is {}",
        parts()
    )]
    Part { text: String },
    #[error("{VARIABLE}: `{text}` says nothing; write {meant}")]
    Meant { text: String, meant: String },
    #[error(
        "{VARIABLE}: commas stand between parts, and `::` within a name; `{text}` has another mark"
    )]
    Mark { text: String },
    #[error("{VARIABLE}: there is a comma too many in `{value}`")]
    Comma { value: String },
    #[error("{VARIABLE}: there are two levels for all parts in `{value}`; write one")]
    Levels { value: String },
}

/// The names of all parts, for people.
fn parts() -> String {
    let (last, others) = PARTS.split_last().expect("there are parts");
    format!("{} or {last}", others.join(", "))
}

/// The level that somebody means who writes another word.
fn level_meant(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "warning" => Some("warn"),
        "err" => Some("error"),
        "none" | "false" => Some("off"),
        _ => None,
    }
}

/// The reason for which a text is no level.
fn no_level(text: &str, before: &str) -> InvalidFilter {
    match level_meant(text) {
        Some(level) => InvalidFilter::Meant {
            text: text.to_owned(),
            meant: format!("{before}{level}"),
        },
        None => InvalidFilter::Level {
            text: text.to_owned(),
        },
    }
}

/// Whether a text can be the name of a part, in which modules have `::` between.
fn is_name(text: &str) -> bool {
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    text.split("::")
        .all(|module| module.chars().all(is_in_name))
}

/// Whether it is a word for a level. A number, which stands for a level elsewhere, says nothing to people.
fn is_level(text: &str) -> bool {
    let is_word = text.chars().all(|c| c.is_ascii_alphabetic());
    is_word && !text.is_empty() && text.parse::<LevelFilter>().is_ok()
}

/// Whether the name of a part is meant for one of this crate.
fn is_meant_for_us(name: &str) -> bool {
    let crate_name = name.split("::").next().unwrap_or_default().to_lowercase();
    strsim::damerau_levenshtein(&crate_name, CRATE) <= TYPOS_MAX
}

/// Checks the name of a part. Other crates have parts that are not known here.
fn check_part(name: &str, level: &str) -> Result<(), InvalidFilter> {
    let below = name
        .strip_prefix(CRATE)
        .and_then(|it| it.strip_prefix("::"));
    let is_of = |part: &str, known: &str| {
        let rest = known.strip_prefix(part);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let is_part = below.is_some_and(|part| PARTS.iter().any(|known| is_of(part, known)));
    let own = PARTS.iter().find(|part| {
        let rest = part.strip_suffix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with("::"))
    });
    if let Some(own) = own {
        return Err(InvalidFilter::Meant {
            text: format!("{name}={level}"),
            meant: format!("{CRATE}::{own}={level}"),
        });
    }
    match name == CRATE || is_part || !is_meant_for_us(name) {
        true => Ok(()),
        false => Err(InvalidFilter::Part {
            text: name.to_owned(),
        }),
    }
}

/// The filter that a value of `TIDEWHEEL_LOG` asks for; `info` if there is none.
fn filter(value: &str) -> Result<EnvFilter, InvalidFilter> {
    if value.trim().is_empty() {
        return Ok(EnvFilter::new("info"));
    }
    let parts = value.split(',').map(str::trim);
    // Fields of spans may have commas of their own.
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
            return Err(InvalidFilter::Mark {
                text: part.to_owned(),
            });
        }
        match level {
            Some(level) if is_level(level) => check_part(name, level)?,
            Some(level) => return Err(no_level(level, &format!("{name}="))),
            None if is_level(part) => levels += 1,
            None if is_meant_for_us(part) => check_part(part, "debug")?,
            // A word that is no level would be the name of another crate, and have no level.
            None => return Err(no_level(part, "")),
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

/// Writes what waits, within [`FLUSH_TIMEOUT`], when it is dropped.
pub(super) struct Log {
    writer: Option<WorkerGuard>,
}

impl Log {
    /// Logs to standard error, as much as `TIDEWHEEL_LOG` asks for: `info` if it is not set.
    ///
    /// # Errors
    /// If the value of that is no level.
    pub(super) fn start(format: LogFormat) -> Result<Self, InvalidFilter> {
        let value = std::env::var_os(VARIABLE).unwrap_or_default();
        let filter = filter(&value.to_string_lossy())?;
        let (lines, writer) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES_MAX)
            .thread_name("log")
            .finish(Stderr);
        let counter = lines.error_counter();
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(lines)
            .log_internal_errors(false)
            .with_ansi(io::stderr().is_terminal());
        // A program that carries the server may have a subscriber of its own: that one stays.
        let started = match format {
            LogFormat::Text => builder.try_init(),
            LogFormat::Json => builder.json().try_init(),
        };
        if started.is_ok() {
            let _ = DROPPED.set(counter);
        }
        Ok(Self {
            writer: Some(writer),
        })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let writer = self.writer.take();
        within(FLUSH_TIMEOUT, move || drop(writer));
    }
}

/// Says something on standard error, unless that cannot be written to within [`FLUSH_TIMEOUT`].
pub(super) fn say(text: String) {
    // If standard error is closed, the exit status is all that can be told.
    within(FLUSH_TIMEOUT, move || {
        let _ = writeln!(io::stderr(), "{text}");
    });
}

/// Runs `run` on a thread of its own, and waits for it no longer than `limit`.
fn within(limit: Duration, run: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel::<()>();
    let thread = std::thread::Builder::new().spawn(move || {
        run();
        drop(done);
    });
    if thread.is_ok() {
        let _ = wait.recv_timeout(limit);
    }
}

/// Standard error, of which no failure is told to anybody but the count.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if io::stderr().write_all(line).is_err() {
            FAILED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    #[test]
    fn levels_and_parts_with_levels_are_followed() {
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
            let filter = filter(value).unwrap();
            assert_eq!(filter.to_string(), expected, "{value}");
        }
    }

    #[test]
    fn what_is_no_level_is_refused_by_name() {
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
            let error = filter(value).map(|it| it.to_string()).unwrap_err();
            let told =
                format!("TIDEWHEEL_LOG: `{text}` is no level; write off, error, warn, info, ");
            assert!(error.to_string().starts_with(&told), "{error}");
        }
    }

    #[test]
    fn a_slip_is_told_with_its_cause() {
        for (value, told) in [
            ("warning", "`warning` says nothing; write warn"),
            ("chat=err", "`err` says nothing; write chat=error"),
            ("info,", "there is a comma too many in `info,`"),
            ("info,,debug", "there is a comma too many in `info,,debug`"),
            (
                "warn,error",
                "there are two levels for all parts in `warn,error`; write one",
            ),
            (
                "info,close=debug",
                "`close=debug` says nothing; write tidewheel::close=debug",
            ),
            (
                "uring::release=warn",
                "`uring::release=warn` says nothing; write tidewheel::ring::uring::release=warn",
            ),
        ] {
            let error = filter(value).map(|it| it.to_string()).unwrap_err();
            assert_eq!(error.to_string(), format!("TIDEWHEEL_LOG: {told}"));
        }
        for value in [
            "info;debug",
            "info;tidewheel::close=debug",
            "info,tidewheel:close=debug",
            "info:tidewheel=debug",
            "info tidewheel::close=debug",
            "tidewheel::close=debug;warn",
        ] {
            let error = filter(value).map(|it| it.to_string()).unwrap_err();
            let told = "TIDEWHEEL_LOG: commas stand between parts, and `::` within a name; ";
            assert!(error.to_string().starts_with(told), "{value}: {error}");
        }
    }

    #[test]
    fn a_part_that_does_not_exist_is_refused_with_those_that_do() {
        for (value, part) in [
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
            let error = filter(value).map(|it| it.to_string()).unwrap_err();
            let told = format!(
                "TIDEWHEEL_LOG: `{part}` is no part of the log; write tidewheel or tidewheel::NAME, where \
                 NAME is cli, close, "
            );
            assert!(error.to_string().starts_with(&told), "{error}");
        }
    }

    /// The parts that the source in a directory logs to; `module` is its path.
    fn logged_parts(directory: &Path, module: &str, parts: &mut BTreeSet<String>) {
        for entry in directory.read_dir().unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let module = match module {
                "" => name.to_owned(),
                parent => format!("{parent}::{name}"),
            };
            if path.is_dir() {
                logged_parts(&path, &module, parts);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("\nmod tests {").next().unwrap();
            for level in ["error", "warn", "info", "debug", "trace"] {
                for event in code.split(&format!("tracing::{level}!(")).skip(1) {
                    let target = event.trim_start().strip_prefix("target: \"tidewheel::");
                    let target = target.and_then(|it| it.split('"').next());
                    parts.insert(target.unwrap_or(&module).to_owned());
                }
            }
        }
    }

    #[test]
    fn the_parts_are_those_that_the_source_logs_to() {
        let mut parts = BTreeSet::new();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        logged_parts(&source, "", &mut parts);
        assert_eq!(PARTS.map(str::to_owned).to_vec(), Vec::from_iter(parts));
    }
}
