//! The control plane: signals, the admin listener, and the ends of shards, on a tokio-uring
//! runtime of the calling thread. No message passes through here.

pub(crate) mod admin;
mod dashboard;
mod metrics;
pub(crate) mod publish;

use std::{cell::Cell, rc::Rc};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    ring::RingError,
    server::{AdminListener, Ended, Error, Running},
};

/// Submission queue entries of the control plane's ring: little goes through it, and its memory
/// may count against RLIMIT_MEMLOCK.
const SUBMISSIONS: u32 = 32;

/// What `/readyz` says, and the dashboard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Readiness {
    Serving,
    Draining,
}

/// Serves until all shards have ended. Calls `ready` when signals are heard.
pub(crate) fn run(running: &mut Running, ready: impl FnOnce()) -> Result<(), Error> {
    let runtime = tokio_uring::Runtime::new(tokio_uring::builder().entries(SUBMISSIONS))
        .map_err(|error| Error::ControlRing(RingError::setup(error)))?;
    runtime.block_on(async {
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let readiness = Rc::new(Cell::new(Readiness::Serving));
        if let Some(AdminListener {
            listener,
            publish_token,
        }) = running.admin.take()
        {
            let listener = tokio::net::TcpListener::from_std(listener).map_err(Error::Control)?;
            let stats = running
                .shards
                .iter()
                .map(|shard| shard.stats.clone())
                .collect();
            let admin = admin::Admin {
                stats,
                readiness: Rc::clone(&readiness),
                remote: running.remote(),
                publish_token,
                bodies: tokio::sync::Semaphore::new(admin::BODIES_MAX),
            };
            tokio_uring::spawn(admin::serve(listener, admin));
        }
        ready();
        let mut left = running.shards.len();
        while left > 0 {
            tokio::select! {
                Some(ended) = running.ends.recv() => {
                    verdict(ended)?;
                    left -= 1;
                }
                _ = terminate.recv() => signalled(running, &readiness)?,
                _ = interrupt.recv() => signalled(running, &readiness)?,
            }
        }
        Ok(())
    })
}

fn listen(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind).map_err(Error::Control)
}

/// The first signal drains, the second ends.
fn signalled(running: &Running, readiness: &Cell<Readiness>) -> Result<(), Error> {
    match readiness.replace(Readiness::Draining) {
        Readiness::Serving => {
            running.drain();
            Ok(())
        }
        Readiness::Draining => Err(Error::Interrupted),
    }
}

/// A shard ends well only when it was told to.
fn verdict(ended: Ended) -> Result<(), Error> {
    match ended.result {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => Err(Error::Failed {
            shard: ended.shard,
            error,
        }),
        None => Err(Error::Panicked { shard: ended.shard }),
    }
}
