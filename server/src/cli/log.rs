//! The log on standard error. It neither delays the server nor ends it.
//!
//! A thread writes the lines. Lines are lost, and counted, if standard error is read too slowly, or if writing
//! fails because the reader has closed the pipe or a disk is full.

mod filter;

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

use self::filter::InvalidFilter;
pub(super) use self::filter::VARIABLE;
use super::choice::LogFormat;

/// Maximum number of lines in the queue. A line has some hundred bytes, and less than 2 KiB.
pub(crate) const LINES_MAX: usize = 4096;

/// Maximum time for writing the queued lines at the end of the program.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Number of lines that could not be written.
static FAILED: AtomicU64 = AtomicU64::new(0);

/// Number of lines that found the queue full.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Number of log lines that were lost.
pub(super) fn lines_lost() -> u64 {
    let dropped = DROPPED.get().map_or(0, ErrorCounter::dropped_lines);
    FAILED.load(Ordering::Relaxed) + dropped as u64
}

/// The running log. Dropping it writes the queued lines, within [`FLUSH_TIMEOUT`].
pub(super) struct Log {
    writer: Option<WorkerGuard>,
}

impl Log {
    /// Starts logging to standard error, at the levels of `TIDEWHEEL_LOG`, or at `info` if it is not set.
    ///
    /// # Errors
    /// If the value of `TIDEWHEEL_LOG` is wrong.
    pub(super) fn start(format: LogFormat) -> Result<Self, InvalidFilter> {
        let value = std::env::var_os(VARIABLE).unwrap_or_default();
        let filter = filter::parse(&value.to_string_lossy())?;
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
        // Fails if the program already has a subscriber, which then stays.
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
        run_within(FLUSH_TIMEOUT, move || drop(writer));
    }
}

/// Prints a line on standard error, and gives up after [`FLUSH_TIMEOUT`].
pub(super) fn print(line: String) {
    // Errors are ignored, because standard error may be closed.
    run_within(FLUSH_TIMEOUT, move || {
        let _ = writeln!(io::stderr(), "{line}");
    });
}

/// Runs `run` on a new thread, and waits for its end for at most `limit`.
fn run_within(limit: Duration, run: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel::<()>();
    let thread = std::thread::Builder::new().spawn(move || {
        run();
        drop(done);
    });
    if thread.is_ok() {
        let _ = wait.recv_timeout(limit);
    }
}

/// Standard error. A failed write is counted and otherwise ignored.
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
