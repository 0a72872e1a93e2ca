//! What several rounds have measured.

use std::fmt;

/// A figure of all rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Figure {
    /// That of `rounds`, of which there is one at least.
    pub(crate) fn new<T>(rounds: &[T], of: impl Fn(&T) -> f64) -> Self {
        let mut all: Vec<f64> = rounds.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        Self {
            least: all[0],
            median: all[all.len() / 2],
            most: all[all.len() - 1],
        }
    }
}

impl fmt::Display for Figure {
    /// The median, and the least and the most in parentheses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            least,
            median,
            most,
        } = self;
        let precision = f.precision().unwrap_or(3);
        write!(
            f,
            "{median:.precision$} ({least:.precision$} to {most:.precision$})"
        )
    }
}
