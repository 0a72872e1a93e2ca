//! The control plane: signals, the admin listener, and the ends of shards, on a tokio-uring
//! runtime of the calling thread. No message passes through here.

pub(crate) mod admin;
mod dashboard;
mod media;
mod metrics;
mod places;
mod process;
pub(crate) mod publish;

use std::{future::pending, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

use crate::{
    host,
    ring::RingError,
    server::{AdminListener, Error, Running},
};

/// Submission queue entries of the control plane's ring: little goes through it, and its memory
/// may count against RLIMIT_MEMLOCK.
const SUBMISSIONS: u32 = 32;

/// Descriptors that the runtime opens, of which those for signals would be missed with a panic.
const DESCRIPTORS: usize = 10;

/// Signals within such a time of the first count as one: process managers send two.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// Serves until all shards have ended. Calls `ready` when signals are heard.
pub(crate) fn run(running: &mut Running, ready: impl FnOnce()) -> Result<(), Error> {
    host::reserve_descriptors(DESCRIPTORS)?;
    let runtime = tokio_uring::Runtime::new(tokio_uring::builder().entries(SUBMISSIONS))
        .map_err(|error| Error::ControlRing(RingError::setup(error)))?;
    runtime.block_on(async {
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut hangup = match host::is_ignored(SignalKind::hangup()) {
            // `nohup` has asked for that.
            true => None,
            false => Some(listen(SignalKind::hangup())?),
        };
        if let Some(AdminListener {
            listener,
            publish_token,
            message_bytes_max,
            hosts,
            log_lines_lost,
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
                remote: running.remote(),
                hosts,
                publishing: publish_token
                    .map(|token| publish::Publishing::new(token, message_bytes_max)),
                log_lines_lost,
            };
            tokio_uring::spawn(admin::serve(listener, admin));
        }
        ready();
        let mut signalled = None;
        let (mut left, mut result) = (running.shards.len(), Ok(()));
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut bursts = 0;
        while left > 0 {
            tokio::select! {
                Some(ended) = running.ends.recv() => {
                    result = result.and(ended);
                    left -= 1;
                }
                _ = second.tick() => release_memory(running, &mut bursts),
                _ = terminate.recv() => on_signal(&mut signalled, running)?,
                _ = interrupt.recv() => on_signal(&mut signalled, running)?,
                () = heard(&mut hangup) => on_signal(&mut signalled, running)?,
            }
        }
        if let (Some(begun), true) = (signalled, result.is_ok()) {
            let took_ms = begun.elapsed().as_millis() as u64;
            tracing::info!(took_ms, "drained");
        }
        result
    })
}

fn listen(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind).map_err(Error::Control)
}

/// Waits for a signal; for ever if it is not listened for.
async fn heard(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => pending().await,
    }
}

/// Gives back what publishing by HTTP has needed, when a burst is over.
fn release_memory(running: &Running, bursts: &mut u64) {
    let ended = running.remote.bursts();
    if std::mem::replace(bursts, ended) != ended
        && let Some(release) = running.release_memory
    {
        release();
    }
}

/// The first signal drains, and a later one ends.
fn on_signal(signalled: &mut Option<Instant>, running: &Running) -> Result<(), Error> {
    match signalled {
        None => {
            *signalled = Some(Instant::now());
            running.drain();
            Ok(())
        }
        Some(first) if first.elapsed() < SAME_SIGNAL => Ok(()),
        Some(_) => Err(Error::Interrupted),
    }
}
