//! Candidates that do the same work, and the table of their times.

use std::time::Instant;

use benches::results::Figure;

/// Work of one of the compared implementations.
pub struct Candidate<'a> {
    name: &'static str,
    /// Does the work once, and returns the number of operations.
    run: Box<dyn FnMut() -> usize + 'a>,
    nanos_per_operation: Vec<f64>,
}

impl<'a> Candidate<'a> {
    pub fn new(name: &'static str, run: impl FnMut() -> usize + 'a) -> Self {
        Self {
            name,
            run: Box::new(run),
            nanos_per_operation: Vec::new(),
        }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the time of an operation in nanoseconds.
    pub fn figure(&self) -> Figure {
        Figure::of(self.nanos_per_operation.iter().copied())
    }

    #[expect(clippy::disallowed_methods, reason = "a benchmark reads a clock")]
    fn round(&mut self) {
        let start = Instant::now();
        let operations = (self.run)();
        let nanos = start.elapsed().as_nanos() as f64;
        self.nanos_per_operation.push(nanos / operations as f64);
    }
}

/// Measures every candidate once in each round, and prints the medians and their ratios to the first candidate's.
pub fn print_table(title: &str, rounds: usize, candidates: &mut [Candidate<'_>]) {
    // The first round warms up the caches.
    candidates.iter_mut().for_each(Candidate::round);
    candidates
        .iter_mut()
        .for_each(|candidate| candidate.nanos_per_operation.clear());
    for _ in 0..rounds {
        candidates.iter_mut().for_each(Candidate::round);
    }
    println!("{title}");
    let median = |candidate: &Candidate<'_>| candidate.figure().median.unwrap_or_default();
    let first = median(&candidates[0]);
    for candidate in candidates {
        let median = median(candidate);
        println!(
            "  {:<18} {median:>9.1} ns  {:>6.2}",
            candidate.name,
            median / first
        );
    }
}
