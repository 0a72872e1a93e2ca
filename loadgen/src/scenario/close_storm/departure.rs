//! Modes reset and silent: the clients are gone, and the server has to let go of them.

use std::time::Duration;

use tidewheel::ring::Wait;

use super::{Options, RESET_BOUND, SILENT_SLACK};
use crate::{
    clock::Moment,
    error::RunError,
    figures::Figures,
    latency::Latency,
    outcome::Outcome,
    progress::{Progress, say},
    report::{Exposure, Findings, LATENESS},
    scenario::approach_window,
    socket_table::SocketTable,
    status::Failures,
    trial::Trial,
    usage::Usage,
    watch::{Emptied, Watch},
};

/// Resets that are submitted at a time; the moment written down is that before the first.
const BATCH: u32 = 256;

/// What the kernel has to tell a client after the server let go of it, it tells at once.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// It is looked so often, before what is seen is believed to be another server's.
const READINGS_MAX: usize = 5;

/// What the figure of a mode is known by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Evidence {
    /// The server's report if it has one, else the kernel's table.
    Either,
    /// The server's report if it has one, and the kernel's table.
    Both,
}

/// How it went.
struct Departure {
    asked: Outcome,
    /// The moment from which the time counts.
    planned: Moment,
    bound: Option<Duration>,
    emptied: Option<Emptied>,
    orphans: Option<u32>,
    lateness: Latency,
    usage: Usage,
    known_by: String,
}

/// Resets all open clients as planned, and waits until the server holds none.
pub(super) fn reset(options: &Options, trial: &mut Trial) -> Result<Findings, RunError> {
    let clients = trial.session.open_clients();
    let mut watch = open_watch(Evidence::Either, trial)?;
    check_covered(&mut watch, trial, clients.len())?;
    let count = u32::try_from(clients.len()).expect("a fleet's size");
    let (plan, start) = approach_window(trial, options.window(), count)?;
    let session = &mut trial.session;
    let mut lateness = Latency::new(LATENESS);
    let mut next = 0;
    let mut now = session.clock.now();
    let mut progress = Progress::start("reset", u64::from(count), plan.start());
    while session.live() > 0 {
        let due = plan.due_by(now).min(next + BATCH);
        for event in next..due {
            if session.fleet.reset(clients[event as usize]) {
                lateness.record_planned(now, plan.due(event));
            }
        }
        next = due;
        let idle = if next < count {
            plan.due(next).since(now)
        } else {
            Duration::ZERO
        };
        now = session.turn(if idle.is_zero() {
            Wait::No
        } else {
            Wait::For(idle)
        })?;
        progress.set(u64::from(count - session.live()), now);
    }
    progress.finish(u64::from(count), now);
    session.release_all(now)?;
    let last = if count > 0 {
        plan.due(count - 1)
    } else {
        plan.start()
    };
    let emptied = watch.until_empty(trial, last, last + RESET_BOUND + options.common.timeout)?;
    let usage = start.until(&trial.server.mark(trial.clock.now())?);
    Ok(Departure {
        asked: Outcome::Reset,
        planned: last,
        bound: Some(RESET_BOUND),
        emptied,
        orphans: None,
        lateness,
        usage,
        known_by: watch.known_by(trial),
    }
    .findings())
}

/// Lets all open clients fall silent, and waits until the server holds none.
pub(super) fn silence(options: &Options, trial: &mut Trial) -> Result<Findings, RunError> {
    let bound = trial.server.deadlines.silence(SILENT_SLACK);
    let mut watch = open_watch(Evidence::Both, trial)?;
    let open = trial.session.open_clients().len();
    check_covered(&mut watch, trial, open)?;
    // Pings were not answered while that was read. One more turn of each ring answers them all.
    for _ in 0..trial.session.fleet.rings() {
        trial.session.turn(Wait::No)?;
    }
    // From here on nobody enters a ring: nothing is read from any socket, at one moment for all.
    trial.session.fleet.fall_silent();
    let silent_at = trial.clock.now();
    let start = trial.server.mark(silent_at)?;
    say(format_args!("silent, waiting for the server to let go"));
    let limit = silent_at + bound.unwrap_or_default() + options.common.timeout;
    let emptied = watch.until_empty(trial, silent_at, limit)?;
    let usage = start.until(&trial.server.mark(trial.clock.now())?);
    let orphans = watch.orphans(trial)?;
    // Now each client looks at what the server has left it.
    trial.session.release_all(trial.clock.now() + LAST_WORDS)?;
    Ok(Departure {
        asked: Outcome::LetGo,
        planned: silent_at,
        bound,
        emptied,
        orphans,
        lateness: Latency::new(LATENESS),
        usage,
        known_by: watch.known_by(trial),
    }
    .findings())
}

/// Chooses where to read what the server holds.
fn open_watch(evidence: Evidence, trial: &Trial) -> Result<Watch, RunError> {
    let table = match (evidence, &trial.server.report) {
        (Evidence::Either, Some(_)) => None,
        (Evidence::Either, None) | (Evidence::Both, _) => {
            Some((SocketTable::open()?, trial.target.address.port()))
        }
    };
    Ok(Watch { table })
}

/// Makes sure that what is watched is what is open: an empty table must mean something.
fn check_covered(watch: &mut Watch, trial: &Trial, opened: usize) -> Result<(), RunError> {
    let connections = u32::try_from(opened).expect("a fleet's size");
    let mut held = watch.held(trial)?;
    // A dump of the kernel's table may miss some while others change it.
    for _ in 0..READINGS_MAX {
        if held.covers(connections) {
            return Ok(());
        }
        held = watch.held(trial)?;
    }
    Err(RunError::NotCovered { opened, held })
}

impl Departure {
    fn findings(self) -> Findings {
        let after = self.emptied.map(|emptied| emptied.at.since(self.planned));
        let mut failures = Failures::default();
        match (after, self.bound) {
            (None, _) => failures.push("the server still holds connections".to_owned()),
            (Some(after), Some(bound)) if after > bound => failures.push(format!(
                "the server was empty after {after:.1?}; the bound is {bound:.1?}"
            )),
            (Some(_), _) => {}
        }
        let mut figures = Figures::default();
        if let (Some(after), Some(emptied)) = (after, self.emptied) {
            figures.seconds("emptied.seconds", after);
            figures.seconds("emptied.resolution_seconds", emptied.resolution);
        }
        if let Some(bound) = self.bound {
            figures.seconds("emptied.bound_seconds", bound);
        }
        if let Some(orphans) = self.orphans {
            figures.count("emptied.orphans", u64::from(orphans));
            if orphans > 0 {
                failures.push(format!(
                    "the kernel still keeps {orphans} sockets for the server"
                ));
            }
        }
        let exposure = match (self.asked, after) {
            // The generator only waits.
            (Outcome::LetGo, _) => Exposure::None,
            // A bound that is kept is kept, however late the generator was.
            _ if failures.is_empty() => Exposure::None,
            (_, Some(after)) => Exposure::Lateness(after),
            (_, None) => Exposure::Cpu,
        };
        Findings {
            settings: vec![("known by", self.known_by)],
            asked: vec![self.asked],
            usage: self.usage,
            lateness: self.lateness,
            unread: None,
            latencies: Vec::new(),
            figures,
            failures,
            exposure,
        }
    }
}
