//! Resident memory of the server during an overload.

use std::time::{Duration, Instant};

use crate::{
    report,
    support::{process::Server, wait},
};

pub(crate) const MIB: u64 = 1 << 20;

/// Samples of the resident memory, in bytes.
#[derive(Debug)]
pub(crate) struct Memory {
    before: u64,
    began: Instant,
    samples: Vec<u64>,
}

impl Memory {
    pub(crate) fn before(server: &Server) -> Self {
        Self {
            before: server.memory("VmRSS"),
            began: wait::now(),
            samples: Vec::new(),
        }
    }

    /// Samples and prints once a second for `time`; `also` returns text for the printed line.
    pub(crate) fn watch(
        &mut self,
        server: &Server,
        time: Duration,
        mut also: impl FnMut() -> String,
    ) {
        let began = wait::now();
        while began.elapsed() < time {
            wait::pause(Duration::from_secs(1).min(time - began.elapsed()));
            let resident = server.memory("VmRSS");
            self.samples.push(resident);
            report(&format!(
                "  {:5.1} s  {:4} MiB resident; {}",
                self.began.elapsed().as_secs_f64(),
                resident / MIB,
                also()
            ));
        }
    }

    /// Asserts that no sample exceeds the memory before by more than `bound` bytes.
    #[track_caller]
    pub(crate) fn assert_growth(&self, bound: u64) {
        let most = self.samples.iter().max().expect("a sample");
        let growth = most.saturating_sub(self.before);
        report(&format!(
            "  grew by {} MiB (bound {} MiB)",
            growth / MIB,
            bound / MIB
        ));
        assert!(
            growth <= bound,
            "grew by {growth} bytes; the bound is {bound}"
        );
    }

    /// Asserts that resident memory is within 16 MiB of its value before, within `limit` of `since`.
    #[track_caller]
    pub(crate) fn assert_returned(&self, server: &Server, since: Instant, limit: Duration) {
        let bound = self.before + 16 * MIB;
        let took = wait::until_since(
            since,
            limit,
            "memory is within 16 MiB of its value before",
            || server.memory("VmRSS") <= bound,
        );
        report(&format!(
            "  within 16 MiB of its value before after {took:.1?}"
        ));
    }
}
