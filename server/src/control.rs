//! The control plane: signals, the admin listener, and the ends of shards, on a tokio-uring
//! runtime of the calling thread. No message passes through here.

pub(crate) mod admin;
mod dashboard;
mod media;
mod metrics;
mod places;
mod process;
pub(crate) mod publish;

use std::{future::pending, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc::UnboundedReceiver,
    time::Instant,
};

pub(crate) use self::admin::AdminListener;
use crate::{Error, Remote, host, ring::RingError, stats::Stats};

/// Submission queue entries of the control plane's ring: little goes through it, and its memory
/// may count against RLIMIT_MEMLOCK.
const SUBMISSIONS: u32 = 32;

/// Descriptors that the runtime opens, of which those for signals would be missed with a panic.
const DESCRIPTORS: usize = 10;

/// Signals within such a time of the first count as one: process managers send two.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// The parts of a running server that the control plane watches.
pub(crate) struct Watched<'a> {
    /// Of each shard.
    pub(crate) stats: Vec<Arc<Stats>>,
    pub(crate) remote: Remote,
    /// Tells of each shard that has ended.
    pub(crate) ends: &'a mut UnboundedReceiver<Result<(), Error>>,
    pub(crate) admin: Option<AdminListener>,
    pub(crate) release_memory: Option<fn()>,
}

/// Serves until all shards have ended. Calls `ready` when signals are heard.
pub(crate) fn run(watched: Watched<'_>, ready: impl FnOnce()) -> Result<(), Error> {
    host::reserve_descriptors(DESCRIPTORS).map_err(Error::descriptors)?;
    let Watched {
        stats,
        remote,
        ends,
        admin,
        release_memory,
    } = watched;
    let runtime = tokio_uring::Runtime::new(tokio_uring::builder().entries(SUBMISSIONS))
        .map_err(|error| Error::ControlRing(RingError::setup(error)))?;
    let shards = stats.len();
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
        }) = admin
        {
            let listener = tokio::net::TcpListener::from_std(listener).map_err(Error::Control)?;
            let admin = admin::Admin {
                stats,
                remote: remote.clone(),
                hosts,
                publishing: publish_token
                    .map(|token| publish::Publishing::new(token, message_bytes_max)),
                log_lines_lost,
            };
            tokio_uring::spawn(admin::serve(listener, admin));
        }
        ready();
        let mut signalled = None;
        let (mut left, mut result) = (shards, Ok(()));
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut bursts = 0;
        while left > 0 {
            tokio::select! {
                Some(ended) = ends.recv() => {
                    result = result.and(ended);
                    left -= 1;
                }
                _ = second.tick() => after_bursts(&remote, &mut bursts, release_memory),
                _ = terminate.recv() => on_signal(&mut signalled, &remote)?,
                _ = interrupt.recv() => on_signal(&mut signalled, &remote)?,
                () = heard(&mut hangup) => on_signal(&mut signalled, &remote)?,
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
fn after_bursts(remote: &Remote, bursts: &mut u64, release_memory: Option<fn()>) {
    let ended = remote.bursts();
    if std::mem::replace(bursts, ended) != ended
        && let Some(release_memory) = release_memory
    {
        release_memory();
    }
}

/// The first signal drains, and a later one ends.
fn on_signal(signalled: &mut Option<Instant>, remote: &Remote) -> Result<(), Error> {
    match signalled {
        None => {
            *signalled = Some(Instant::now());
            remote.drain();
            Ok(())
        }
        Some(first) if first.elapsed() < SAME_SIGNAL => Ok(()),
        Some(_) => Err(Error::Interrupted),
    }
}
