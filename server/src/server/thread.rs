//! The thread of a shard.

use std::{
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use tidewheel_codec::Endpoint;
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    Error, Handler, InvalidConfig, Remote, contain,
    driver::{self, Failure},
    shard::Parts,
    stats::Stats,
};

/// The end of a shard's thread.
pub(super) type Ended = Result<(), Error>;

/// The thread of a shard, as other threads see it.
#[derive(Debug)]
pub(super) struct ShardThread {
    stats: Arc<Stats>,
    thread: Option<JoinHandle<()>>,
}

impl ShardThread {
    pub(super) fn start<H: Handler>(
        plan: driver::Plan,
        parts: Parts,
        make: impl Fn(u16) -> H + Send + 'static,
        ended: UnboundedSender<Ended>,
        remote: Remote,
    ) -> Result<Self, Error> {
        let endpoint = Endpoint::new(plan.config.protocol()).map_err(InvalidConfig::from)?;
        let shard = plan.index;
        let stats = Arc::clone(&parts.stats);
        let (start, started) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(format!("shard-{shard}"))
            .spawn(move || {
                contain::catch_on_this_thread();
                // The starting thread waits until it is ready, or has failed.
                let mut start = Some(start);
                let ready = || {
                    if let Some(start) = start.take() {
                        let _ = start.send(Ok(()));
                    }
                };
                let result =
                    match contain::catch(|| driver::run(plan, parts, endpoint, make, ready)) {
                        Ok(result) => result,
                        Err(panic) => Err(Failure::Panic(panic)),
                    };
                let result = result.map_err(|failure| failure.into_error(shard));
                if let Some(start) = start {
                    let _ = start.send(result);
                    return;
                }
                if let Err(error) = &result {
                    tracing::error!(shard, %error, "a shard has failed; the others drain");
                    remote.drain_for_restart(error);
                }
                // Nobody listens any more if the server was stopped.
                let _ = ended.send(result);
            })
            .map_err(|error| Error::Thread { shard, error })?;
        match started.recv() {
            Ok(started) => started.map(|()| Self {
                stats,
                thread: Some(thread),
            }),
            Err(mpsc::RecvError) => unreachable!("the thread says whether it has started"),
        }
    }

    pub(super) fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    /// Waits until it has ended.
    pub(super) fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // It catches what panics in it.
            let _ = thread.join();
        }
    }
}
