//! The loop that drives a shard on a thread of its own.

#[cfg(feature = "tasks")]
mod runtime;
mod shared_core;
mod waiter;

use std::{
    io,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use tidewheel_codec::{Endpoint, Time};

pub(crate) use self::shared_core::SharedCore;
use self::{shared_core::CoreUser, waiter::Waiter};
use crate::{
    BoxError, Config, Error, Handler, contain, host,
    ring::{RingError, Setup, Uring, Wait},
    shard::{End, Next, Parts, Shard},
    stats::Stats,
};

/// The settings of a shard's thread.
pub(crate) struct Plan {
    pub(crate) index: u16,
    pub(crate) listener: OwnedFd,
    pub(crate) core: Option<usize>,
    /// The turns of the core, if several shards share it.
    pub(crate) shared_core: Option<Arc<SharedCore>>,
    pub(crate) config: Config,
}

/// Delay of a wake-up from which the core, with all its shards, was held up.
const LATE_WAKEUP_MIN: Duration = Duration::from_millis(100);

/// Smallest size of the submission queue that is tried when memory is short.
const SUBMISSIONS_MIN: u32 = 64;

/// The reason why a shard has ended early.
pub(crate) enum Failure {
    /// Its ring could not be created.
    Setup(RingError),
    /// The application could not make its handler.
    Handler(BoxError),
    Ring(io::Error),
    Panic(contain::Panic),
}

impl Failure {
    /// The server's error for this failure of a shard.
    pub(crate) fn into_error(self, shard: u16) -> Error {
        match self {
            Self::Setup(RingError::Other(error)) if host::is_out_of_descriptors(&error) => {
                Error::descriptors(error)
            }
            Self::Setup(error) => Error::Ring { shard, error },
            Self::Handler(source) => Error::Handler { shard, source },
            Self::Ring(error) => Error::Failed { shard, error },
            Self::Panic(panic) => Error::Panicked {
                shard,
                message: panic.message().to_owned(),
                location: panic.location().to_owned(),
            },
        }
    }
}

/// Runs a shard until it has ended. Calls `ready` when it has started.
pub(crate) fn run<H: Handler>(
    plan: Plan,
    parts: Parts,
    endpoint: Endpoint,
    make: impl FnOnce() -> Result<H, BoxError>,
    ready: impl FnOnce(),
) -> Result<(), Failure> {
    if let Some(core) = plan.core {
        host::pin(core);
    }
    let config = plan.config.clone();
    let served = serve(plan, parts, endpoint, make, ready);
    waiter::run(&config, served).map_err(Failure::Setup)?
}

/// Creates a shard, and drives it until it has ended.
async fn serve<H: Handler>(
    plan: Plan,
    parts: Parts,
    endpoint: Endpoint,
    make: impl FnOnce() -> Result<H, BoxError>,
    ready: impl FnOnce(),
) -> Result<(), Failure> {
    let ring = open_ring(&plan, parts.capacity.places).map_err(Failure::Setup)?;
    let clock = Clock::start();
    let handler = make().map_err(Failure::Handler)?;
    let stats = Arc::clone(&parts.stats);
    let mut core_user = plan.shared_core.clone().map(CoreUser::new);
    let mut shard = match Shard::new(
        ring,
        handler,
        &plan.config,
        endpoint,
        parts,
        at(clock.elapsed()),
    ) {
        Ok(shard) => shard,
        Err(error) => unreachable!("the server has checked the configuration: {error}"),
    };
    let waiter = Waiter::new(&shard, &plan.config);
    let mut waiter = waiter.map_err(|error| Failure::Setup(RingError::Other(error)))?;
    // The copy of the ring is then the last one, so that the kernel stops distributing clients to it when the
    // shard ends.
    drop(plan.listener);
    ready();
    #[cfg(feature = "tasks")]
    let (tasks, _) = shard.tasks();
    let driven = drive(&mut shard, &clock, &stats, core_user.as_mut(), &mut waiter);
    #[cfg(feature = "tasks")]
    let driven = tasks.run_until(driven);
    let driven = contain::catch_future(driven).await;
    drop(core_user);
    let (end, result) = match driven {
        Ok(Ok(())) => (End::Finished, Ok(())),
        Ok(Err(error)) => (End::RingFailed, Err(Failure::Ring(error))),
        Err(panic) => (End::Panicked, Err(Failure::Panic(panic))),
    };
    shard.end(&end, at(clock.elapsed()));
    result
}

/// Takes turns until the shard has finished, or its ring has failed.
async fn drive<H: Handler>(
    shard: &mut Shard<Uring, H>,
    clock: &Clock,
    stats: &Stats,
    mut core_user: Option<&mut CoreUser>,
    waiter: &mut Waiter,
) -> io::Result<()> {
    // Time at which the next turn should begin.
    let mut due = None;
    loop {
        let mut began = clock.elapsed();
        if let Some(core_user) = &mut core_user
            && due.is_some_and(|due| began > due + LATE_WAKEUP_MIN)
        {
            core_user.wait_for_turn_among_others();
            shard.enter(Wait::No)?;
            began = clock.elapsed();
        }
        let next = shard.turn(at(began));
        let ended = clock.elapsed();
        stats.turns.record(ended - began);
        match next {
            Next::Finished => return Ok(()),
            Next::Enter(wait) => {
                due = match wait {
                    Wait::For(limit) => Some(ended + limit),
                    Wait::No | Wait::Forever => None,
                };
                enter(shard, wait, core_user.as_deref_mut(), waiter).await?;
            }
        }
    }
}

/// Enters the ring. A shard whose next turn follows at once lets the other shards of its core take their turns
/// first, and then enters the ring again for what has arrived meanwhile.
async fn enter<H: Handler>(
    shard: &mut Shard<Uring, H>,
    wait: Wait,
    core_user: Option<&mut CoreUser>,
    waiter: &mut Waiter,
) -> io::Result<()> {
    match (wait, core_user) {
        (Wait::No, Some(core_user)) => {
            waiter.enter(shard, Wait::No).await?;
            core_user.end_turn();
            core_user.wait_for_turn();
            shard.enter(Wait::No)
        }
        (Wait::For(_) | Wait::Forever, Some(core_user)) => {
            core_user.end_turn();
            waiter.enter(shard, wait).await
        }
        (_, None) => waiter.enter(shard, wait).await,
    }
}

/// Creates the shard's ring, with smaller queues if memory is short.
fn open_ring(plan: &Plan, sockets: u32) -> Result<Uring, RingError> {
    let mut setup = Setup {
        sockets,
        buffers: plan.config.receive_buffers,
        buffer_size: plan.config.receive_buffer_size,
        ..Setup::default()
    };
    loop {
        let listener = plan.listener.try_clone().map_err(RingError::Other)?;
        match Uring::new(&setup, Some(listener)) {
            Err(RingError::Memory { .. }) if setup.submissions > SUBMISSIONS_MIN => {
                setup.submissions /= 2;
                setup.completions /= 2;
                tracing::warn!(
                    shard = plan.index,
                    submissions = setup.submissions,
                    completions = setup.completions,
                    "RLIMIT_MEMLOCK is too low for the queues of the ring; trying with half. \
                     `ulimit -l unlimited` raises it"
                );
            }
            result => return result,
        }
    }
}

/// The time since the start of the shard.
#[derive(Debug)]
struct Clock {
    start: Instant,
}

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is one of the loops that read the clock"
    )]
    fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Converts to the time of a shard, in whole milliseconds.
fn at(elapsed: Duration) -> Time {
    Time::from_millis(elapsed.as_millis() as u64)
}
