//! Cores for the server and the generator.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A core for the server and a core for the generator. Dropping it restores the affinity of this thread.
#[derive(Debug)]
pub(crate) struct Cores {
    /// Cores that this thread could use before.
    allowed: CpuSet,
    server: CpuSet,
    generator: CpuSet,
    /// Number of the server's core and of the generator's core.
    pub(crate) numbers: (usize, usize),
}

impl Cores {
    /// Picks two cores; returns `None` if this thread may use only one.
    ///
    /// # Errors
    /// Errors of sched_getaffinity(2).
    pub(crate) fn pick() -> io::Result<Option<Self>> {
        let allowed = sched_getaffinity(None)?;
        let mut numbers = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let (Some(server), Some(generator)) = (numbers.next(), numbers.next()) else {
            return Ok(None);
        };
        let only = |core| {
            let mut set = CpuSet::new();
            set.set(core);
            set
        };
        Ok(Some(Self {
            allowed,
            server: only(server),
            generator: only(generator),
            numbers: (server, generator),
        }))
    }

    /// Returns the server's core and the generator's core as CPU sets.
    pub(crate) const fn sets(&self) -> [CpuSet; 2] {
        [self.server, self.generator]
    }

    /// Moves this thread to the server's core, which processes started from now on inherit.
    ///
    /// # Errors
    /// Errors of sched_setaffinity(2).
    pub(crate) fn enter_server(&self) -> io::Result<()> {
        Ok(sched_setaffinity(None, &self.server)?)
    }

    /// Moves this thread to the generator's core.
    ///
    /// # Errors
    /// Errors of sched_setaffinity(2).
    pub(crate) fn enter_generator(&self) -> io::Result<()> {
        Ok(sched_setaffinity(None, &self.generator)?)
    }
}

impl Drop for Cores {
    /// Restores the affinity that this thread had before.
    fn drop(&mut self) {
        // These cores were allowed before.
        let _ = sched_setaffinity(None, &self.allowed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_cores_restores_the_affinity() {
        let Some(cores) = Cores::pick().unwrap() else {
            // This host has one core.
            return;
        };
        let numbers = cores.numbers;
        cores.enter_generator().unwrap();
        assert!(
            Cores::pick().unwrap().is_none(),
            "this thread may use one core now"
        );
        drop(cores);
        assert_eq!(Cores::pick().unwrap().unwrap().numbers, numbers);
    }
}
