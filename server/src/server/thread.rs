//! The thread of a shard.

use std::{
    sync::mpsc,
    thread::{self, JoinHandle},
};

use tidewheel_codec::Endpoint;
use tokio::sync::mpsc::UnboundedSender;

use super::{ShardContext, event::Event};
use crate::{
    BoxError, Error, Handler, InvalidConfig, contain,
    driver::{self, Failure},
    shard::Parts,
};

/// A handle to the thread of a shard.
#[derive(Debug)]
pub(super) struct ShardThread {
    thread: Option<JoinHandle<()>>,
}

impl ShardThread {
    /// Starts the thread, and waits until the shard has started or failed. `events` receives the result of a shard
    /// that had started.
    pub(super) fn start<H: Handler>(
        plan: driver::Plan,
        parts: Parts,
        context: ShardContext,
        make: impl FnOnce(&ShardContext) -> Result<H, BoxError> + Send + 'static,
        events: UnboundedSender<Event>,
    ) -> Result<Self, Error> {
        let endpoint = Endpoint::new(plan.config.protocol()).map_err(InvalidConfig::from)?;
        let shard = plan.index;
        let (start, started) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(format!("shard-{shard}"))
            .spawn(move || {
                contain::catch_on_this_thread();
                // Taken when the shard is ready.
                let mut start = Some(start);
                let ready = || {
                    if let Some(start) = start.take() {
                        let _ = start.send(Ok(()));
                    }
                };
                let make = || make(&context);
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
                    tracing::error!(shard, %error, "a shard has failed; the other shards drain");
                    context.publisher.drain_for_restart(error);
                }
                // Fails if the server was stopped and dropped.
                let _ = events.send(Event::Ended(result));
            })
            .map_err(|error| Error::Thread { shard, error })?;
        match started.recv() {
            Ok(started) => started.map(|()| Self {
                thread: Some(thread),
            }),
            Err(mpsc::RecvError) => unreachable!("the thread sends its start or its failure"),
        }
    }

    /// Waits for the end of the thread. A callback of the shard itself does not wait: the thread ends after it.
    pub(super) fn join(&mut self) {
        let is_own = |thread: &JoinHandle<()>| thread.thread().id() == thread::current().id();
        if let Some(thread) = self.thread.take_if(|thread| !is_own(thread)) {
            // Cannot fail: the thread catches panics.
            let _ = thread.join();
        }
    }
}
