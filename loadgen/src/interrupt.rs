//! SIGINT and SIGTERM: they end the run and its server in an orderly way.

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

/// Flag that SIGINT or SIGTERM has arrived. The second signal ends the process at once.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    raised: Arc<AtomicBool>,
}

/// The error after SIGINT or SIGTERM.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

impl Interrupt {
    /// Installs handlers of SIGINT and SIGTERM.
    ///
    /// # Errors
    /// Errors of sigaction(2).
    pub(crate) fn install() -> io::Result<Self> {
        let raised = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&raised))?;
            signal_hook::flag::register(signal, Arc::clone(&raised))?;
        }
        Ok(Self { raised })
    }

    /// Checks whether a signal has arrived.
    ///
    /// # Errors
    /// [`Interrupted`] if a signal has arrived.
    pub(crate) fn check(&self) -> Result<(), Interrupted> {
        if self.raised.load(Ordering::Relaxed) {
            return Err(Interrupted);
        }
        Ok(())
    }

    /// Waits for `duration`, or until a signal arrives.
    ///
    /// # Errors
    /// [`Interrupted`] if a signal has arrived.
    pub(crate) fn pause(&self, duration: Duration) -> Result<(), Interrupted> {
        self.check()?;
        if let Ok(timeout) = Timespec::try_from(duration) {
            // Without descriptors poll(2) fails only if a signal ends it.
            let _ = rustix::event::poll(&mut [], Some(&timeout));
        }
        self.check()
    }
}
