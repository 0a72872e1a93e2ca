use std::time::{Duration, Instant};

/// One of those that are compared.
pub struct Candidate<'a> {
    name: &'static str,
    /// Does some work and gives the number of operations.
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

    #[expect(clippy::disallowed_methods, reason = "a benchmark reads a clock")]
    fn round(&mut self) {
        let start = Instant::now();
        let operations = (self.run)();
        let elapsed: Duration = start.elapsed();
        self.nanos_per_operation
            .push(elapsed.as_nanos() as f64 / operations as f64);
    }

    fn median(&mut self) -> f64 {
        self.nanos_per_operation.sort_by(f64::total_cmp);
        self.nanos_per_operation[self.nanos_per_operation.len() / 2]
    }
}

/// Gives every candidate its turn in each round, and prints the medians and their ratios to the
/// first's.
pub fn print_table(title: &str, rounds: usize, candidates: &mut [Candidate<'_>]) {
    candidates.iter_mut().for_each(Candidate::round);
    candidates
        .iter_mut()
        .for_each(|candidate| candidate.nanos_per_operation.clear());
    for _ in 0..rounds {
        candidates.iter_mut().for_each(Candidate::round);
    }
    println!("{title}");
    let first = candidates[0].median();
    for candidate in candidates {
        let median = candidate.median();
        println!(
            "  {:<18} {median:>9.1} ns  {:>6.2}",
            candidate.name,
            median / first
        );
    }
}
