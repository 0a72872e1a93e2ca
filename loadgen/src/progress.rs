//! What a run shows while it goes on, on stderr.

use std::{
    io::{IsTerminal, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::clock::Moment;

/// A line is printed so often where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// How far a phase of the run has come.
#[derive(Debug)]
pub(crate) struct Progress {
    verb: &'static str,
    total: u64,
    started: Moment,
    display: Display,
}

#[derive(Debug)]
enum Display {
    Bar(ProgressBar),
    Lines { next: Moment },
}

impl Progress {
    /// Starts to show a phase; `verb` is what happens to `total` things, as in "opened".
    pub(crate) fn start(verb: &'static str, total: u64, now: Moment) -> Self {
        let display = if stderr().is_terminal() {
            let style = "{msg:>8} {wide_bar} {human_pos}/{human_len} {per_sec}";
            let style = ProgressStyle::with_template(style).expect("a constant template");
            let bar = ProgressBar::new(total).with_style(style);
            Display::Bar(bar.with_message(verb))
        } else {
            Display::Lines {
                next: now + LINE_INTERVAL,
            }
        };
        Self {
            verb,
            total,
            started: now,
            display,
        }
    }

    /// Shows that `done` are through.
    pub(crate) fn set(&mut self, done: u64, now: Moment) {
        match &mut self.display {
            Display::Bar(bar) => bar.set_position(done),
            Display::Lines { next } if now >= *next => {
                *next = now + LINE_INTERVAL;
                self.print(done, now);
            }
            Display::Lines { .. } => {}
        }
    }

    /// Ends the phase with one line.
    pub(crate) fn finish(self, done: u64, now: Moment) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
        self.print(done, now);
    }

    fn print(&self, done: u64, now: Moment) {
        let Self {
            verb,
            total,
            started,
            ..
        } = self;
        let seconds = now.since(*started).as_secs_f64();
        let rate = done as f64 / seconds.max(1e-9);
        eprintln!("{verb} {done} of {total} in {seconds:.2} s ({rate:.0}/s)");
    }
}
