//! The signals that end a server.

use std::{
    thread::{self, JoinHandle},
    time::Instant,
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::{self, Handle},
};
use tokio::sync::mpsc::UnboundedSender;

use super::event::Event;
use crate::{Error, host};

/// A thread that handles SIGTERM, SIGINT and SIGHUP. Dropping it ends the thread; the signals then have no effect.
pub(super) struct Signals {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Signals {
    /// Handles the signals from now on, and reports each to `events`. A process that was started to ignore SIGHUP,
    /// as by `nohup`, still ignores it.
    pub(super) fn report_to(events: UnboundedSender<Event>) -> Result<Self, Error> {
        let mut signals = vec![SIGTERM, SIGINT];
        if !host::is_ignored(SIGHUP) {
            signals.push(SIGHUP);
        }
        let mut signals = iterator::Signals::new(signals).map_err(Error::signals)?;
        let handle = signals.handle();
        let thread = thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for _ in &mut signals.forever() {
                    // Fails if the server was dropped.
                    let _ = events.send(Event::Signal(now()));
                }
            })
            .map_err(Error::signals)?;
        Ok(Self {
            handle,
            thread: Some(thread),
        })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // Cannot fail: the thread does not panic.
            let _ = thread.join();
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "signals come from outside, and no shard uses their time"
)]
fn now() -> Instant {
    Instant::now()
}
