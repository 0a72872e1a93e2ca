//! Progress of a run, shown on stderr.

use std::{
    fmt,
    io::{IsTerminal, Write, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::measure::clock::Moment;

/// Interval of the lines that are printed where stderr is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Shortest interval in milliseconds between two updates of a bar.
const BAR_INTERVAL_MS: u64 = 50;

/// Progress of one phase of a run.
#[derive(Debug)]
pub(crate) struct Progress {
    /// The verb of the phase, such as "opened".
    verb: &'static str,
    end: End,
    started: Moment,
    display: Display,
}

/// The condition that ends a phase.
#[derive(Clone, Copy, Debug)]
enum End {
    /// A number of events.
    Count(u64),
    /// A time, with any number of events.
    Time(Duration),
}

#[derive(Debug)]
enum Display {
    Bar(ProgressBar),
    Lines { next: Moment },
}

impl Progress {
    /// Starts a phase of `total` events.
    pub(crate) fn start(verb: &'static str, total: u64, now: Moment) -> Self {
        Self::until(End::Count(total), verb, now)
    }

    /// Starts a phase that takes `time`.
    pub(crate) fn start_for(verb: &'static str, time: Duration, now: Moment) -> Self {
        Self::until(End::Time(time), verb, now)
    }

    fn until(end: End, verb: &'static str, now: Moment) -> Self {
        let display = if stderr().is_terminal() {
            let (style, length) = match end {
                End::Count(total) => ("{human_pos}/{human_len} {per_sec}", total),
                End::Time(time) => ("{prefix}", millis(time)),
            };
            let style = ProgressStyle::with_template(&format!("{{msg:>9}} {{wide_bar}} {style}"));
            let style = style.expect("the template is a constant");
            let bar = ProgressBar::new(length).with_style(style);
            Display::Bar(bar.with_message(verb))
        } else {
            Display::Lines {
                next: now + LINE_INTERVAL,
            }
        };
        Self {
            verb,
            end,
            started: now,
            display,
        }
    }

    /// Shows that `done` events have happened.
    pub(crate) fn set(&mut self, done: u64, now: Moment) {
        match &mut self.display {
            Display::Bar(bar) => match self.end {
                End::Count(_) => bar.set_position(done),
                End::Time(_) => {
                    let passed = now.since(self.started);
                    if millis(passed) >= bar.position() + BAR_INTERVAL_MS {
                        bar.set_prefix(format!("{done} {:.0}/s", rate(done, passed)));
                        bar.set_position(millis(passed));
                    }
                }
            },
            Display::Lines { next } if now >= *next => {
                *next = now + LINE_INTERVAL;
                self.print(done, now);
            }
            Display::Lines { .. } => {}
        }
    }

    /// Ends the phase, and prints one line.
    pub(crate) fn finish(self, done: u64, now: Moment) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
        self.print(done, now);
    }

    fn print(&self, done: u64, now: Moment) {
        let passed = now.since(self.started);
        print_line(format_args!("{}", line(self.verb, self.end, done, passed)));
    }
}

/// Prints a line on stderr. Errors are ignored: progress is not part of the result.
pub(crate) fn print_line(line: fmt::Arguments<'_>) {
    let _ = writeln!(stderr(), "{line}");
}

fn line(verb: &str, end: End, done: u64, passed: Duration) -> String {
    let (seconds, rate) = (passed.as_secs_f64(), rate(done, passed));
    match end {
        End::Count(total) => format!("{verb} {done} of {total} in {seconds:.2} s ({rate:.0}/s)"),
        End::Time(time) => {
            let whole = time.as_secs_f64();
            format!("{verb} {done} in {seconds:.2} of {whole:.2} s ({rate:.0}/s)")
        }
    }
}

fn rate(done: u64, passed: Duration) -> f64 {
    done as f64 / passed.as_secs_f64().max(1e-9)
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_the_number_of_events_and_their_rate() {
        let second = Duration::from_secs(1);
        assert_eq!(
            line("opened", End::Count(4000), 1000, second / 2),
            "opened 1000 of 4000 in 0.50 s (2000/s)"
        );
        assert_eq!(
            line("echoed", End::Time(4 * second), 1000, second / 2),
            "echoed 1000 in 0.50 of 4.00 s (2000/s)"
        );
    }
}
