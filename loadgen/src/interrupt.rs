//! Ctrl-C: the run ends in good order, and the server with it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::time::Timespec;
use signal_hook::consts::{SIGINT, SIGTERM};

/// Whether the run is to end. The second signal ends the process at once.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    raised: Arc<AtomicBool>,
}

/// SIGINT or SIGTERM arrived.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

impl Interrupt {
    /// Takes SIGINT and SIGTERM over.
    ///
    /// # Errors
    /// Those of sigaction(2).
    pub(crate) fn install() -> io::Result<Self> {
        let raised = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&raised))?;
            signal_hook::flag::register(signal, Arc::clone(&raised))?;
        }
        Ok(Self { raised })
    }

    /// Goes on, unless a signal has arrived.
    ///
    /// # Errors
    /// [`Interrupted`] if it has.
    pub(crate) fn check(&self) -> Result<(), Interrupted> {
        if self.raised.load(Ordering::Relaxed) {
            return Err(Interrupted);
        }
        Ok(())
    }

    /// Lets `duration` pass, or less if a signal arrives.
    ///
    /// # Errors
    /// [`Interrupted`] if one has arrived.
    pub(crate) fn pause(&self, duration: Duration) -> Result<(), Interrupted> {
        self.check()?;
        if let Ok(timeout) = Timespec::try_from(duration) {
            // A signal ends poll(2), and nothing else can go wrong in it without descriptors.
            let _ = rustix::event::poll(&mut [], Some(&timeout));
        }
        self.check()
    }
}
