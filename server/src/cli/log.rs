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
const VARIABLE: &str = "TIDEWHEEL_LOG";

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
#[error(
    "{VARIABLE}: `{text}` is no level; write off, error, warn, info, debug or trace, or a part with a \
     level, such as tidewheel::close=debug; several with commas between"
)]
pub(super) struct InvalidFilter {
    text: String,
}

fn is_level(text: &str) -> bool {
    !text.is_empty() && text.parse::<LevelFilter>().is_ok()
}

/// The filter that a value of `TIDEWHEEL_LOG` asks for; `info` if there is none.
fn filter(value: &str) -> Result<EnvFilter, InvalidFilter> {
    let invalid = |text: &str| InvalidFilter {
        text: text.to_owned(),
    };
    if value.trim().is_empty() {
        return Ok(EnvFilter::new("info"));
    }
    let parts = value.split(',').map(str::trim);
    // Fields of spans may have commas of their own.
    let has_spans = value.contains(['[', '{']);
    for part in parts.clone().filter(|_| !has_spans) {
        let is_valid = match part.split_once('=') {
            Some((_, level)) => is_level(level),
            // A word that is no level would be the name of a part of the program, and there is none.
            None => is_level(part) || part.starts_with("tidewheel"),
        };
        if !is_valid {
            return Err(invalid(part));
        }
    }
    let filter = parts.collect::<Vec<_>>().join(",");
    EnvFilter::builder()
        .parse(&filter)
        .map_err(|_| invalid(&filter))
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
            ("warning", "warning"),
            ("info,", ""),
            ("info;debug", "info;debug"),
            ("info, loud", "loud"),
            ("tidewheel::close=loud", "tidewheel::close=loud"),
            ("tidewheel::close=", "tidewheel::close="),
            ("info,tidewheel::close=loud", "tidewheel::close=loud"),
            ("[span{field=", "[span{field="),
            ("true", "true"),
            ("6", "6"),
        ] {
            let error = filter(value).map(|it| it.to_string()).unwrap_err();
            let told =
                format!("TIDEWHEEL_LOG: `{text}` is no level; write off, error, warn, info, ");
            assert!(error.to_string().starts_with(&told), "{error}");
        }
    }
}
