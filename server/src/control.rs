//! The control plane: signals, the admin listener, and the ends of shards.
//!
//! It runs on a tokio-uring runtime of the calling thread. Messages between clients do not pass through it.

pub(crate) mod admin;
mod dashboard;
mod media;
mod metrics;
mod process;
pub(crate) mod publish;
mod response;
mod routes;
mod slots;

use std::{future::pending, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc::UnboundedReceiver,
    time::Instant,
};

pub(crate) use self::admin::AdminListener;
use crate::{Error, Publisher, host, ring::RingError, stats::Stats};

/// Number of submission queue entries of the control plane's ring. Its memory may count against
/// `RLIMIT_MEMLOCK`.
const SUBMISSION_ENTRIES: u32 = 32;

/// Number of descriptors that the runtime opens. It panics if it cannot open the descriptors for signals, so they
/// are reserved first.
const DESCRIPTORS: usize = 10;

/// Signals within this time of the first one count as one, because some process managers send two.
const SIGNAL_INTERVAL_MIN: Duration = Duration::from_millis(500);

/// The parts of a running server that the control plane watches.
pub(crate) struct Watched<'a> {
    /// The counts of each shard.
    pub(crate) stats: Vec<Arc<Stats>>,
    pub(crate) publisher: Publisher,
    /// Receives the result of each shard that has ended.
    pub(crate) ends: &'a mut UnboundedReceiver<Result<(), Error>>,
    pub(crate) admin: Option<AdminListener>,
    pub(crate) release_memory: Option<fn()>,
}

/// Runs the control plane until all shards have ended. Calls `ready` when signals are handled.
///
/// # Errors
/// The error of the first shard that has failed, or [`Error::Interrupted`] after a second signal.
pub(crate) fn run(watched: Watched<'_>, ready: impl FnOnce()) -> Result<(), Error> {
    host::reserve_descriptors(DESCRIPTORS).map_err(Error::descriptors)?;
    let Watched {
        stats,
        publisher,
        ends,
        admin,
        release_memory,
    } = watched;
    let runtime = tokio_uring::Runtime::new(tokio_uring::builder().entries(SUBMISSION_ENTRIES))
        .map_err(|error| Error::ControlRing(RingError::setup(error)))?;
    let shards = stats.len();
    runtime.block_on(async {
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut hangup = match host::is_ignored(SignalKind::hangup()) {
            // As by `nohup`.
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
            let routes = routes::Routes {
                publisher: publisher.clone(),
                hosts,
                publishing: publish_token
                    .map(|token| publish::Publishing::new(token, message_bytes_max)),
                log_lines_lost,
            };
            tokio_uring::spawn(admin::serve(listener, routes));
        }
        ready();
        let mut signalled = None;
        let (mut left, mut result) = (shards, Ok(()));
        let mut every_second = tokio::time::interval(Duration::from_secs(1));
        let mut bursts = 0;
        while left > 0 {
            tokio::select! {
                Some(ended) = ends.recv() => {
                    result = result.and(ended);
                    left -= 1;
                }
                _ = every_second.tick() => release_after_bursts(&publisher, &mut bursts, release_memory),
                _ = terminate.recv() => on_signal(&mut signalled, &publisher)?,
                _ = interrupt.recv() => on_signal(&mut signalled, &publisher)?,
                () = received(&mut hangup) => on_signal(&mut signalled, &publisher)?,
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

/// Waits for a signal; for ever if the signal is ignored.
async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => pending().await,
    }
}

/// Returns freed memory to the system after a burst of published messages.
fn release_after_bursts(publisher: &Publisher, bursts: &mut u64, release_memory: Option<fn()>) {
    let ended = publisher.bursts();
    if std::mem::replace(bursts, ended) != ended
        && let Some(release_memory) = release_memory
    {
        release_memory();
    }
}

/// Starts a drain at the first signal, and fails at a later one.
fn on_signal(signalled: &mut Option<Instant>, publisher: &Publisher) -> Result<(), Error> {
    match signalled {
        None => {
            *signalled = Some(Instant::now());
            publisher.drain();
            Ok(())
        }
        Some(first) if first.elapsed() < SIGNAL_INTERVAL_MIN => Ok(()),
        Some(_) => Err(Error::Interrupted),
    }
}
