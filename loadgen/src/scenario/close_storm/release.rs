//! Modes reset and silent: the server has to release the connections of clients that are gone.

use std::time::Duration;

use tidewheel::ring::Wait;

use crate::{
    fleet::outcome::Outcome,
    measure::{
        clock::Moment, figures::Figures, latency::Latency, latency_names::LATENESS,
        socket_table::SocketTable, usage::Usage,
    },
    progress::{Progress, print_line},
    report::{Exposure, Findings, status::Failures},
    run::{Run, error::RunError},
    scenario::phases::plan_window,
    server::connection_monitor::{ConnectionMonitor, Emptied},
};

/// Longest time beyond its deadlines that a server may take to release silent clients.
const SILENT_SLACK: Duration = Duration::from_millis(800);

/// Longest time that a server may take to release reset clients.
const RESET_BOUND: Duration = Duration::from_secs(1);

/// Largest number of resets between two turns; the recorded moment of all of them is that of the first.
const RESET_BATCH_MAX: u32 = 256;

/// Longest wait for the ends of silent clients after the server has released them.
const END_WAIT_MAX: Duration = Duration::from_secs(1);

/// Number of readings after which the monitor is considered to read another server.
const READINGS_MAX: usize = 5;

/// Sources that a mode needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Evidence {
    /// The server's report if it has one, and otherwise the kernel's table.
    Either,
    /// The server's report if it has one, and also the kernel's table.
    Both,
}

/// The release of all connections by the server.
struct Release {
    expected: Outcome,
    /// The moment from which the time is measured.
    planned: Moment,
    bound: Option<Duration>,
    emptied: Option<Emptied>,
    orphans: Option<u32>,
    lateness: Latency,
    usage: Usage,
    sources: String,
}

/// Resets all open clients as planned, and waits until the server holds none.
pub(super) fn reset(
    window: Duration,
    timeout: Duration,
    run: &mut Run,
) -> Result<Findings, RunError> {
    let clients = run.session.open_clients();
    let mut monitor = open_monitor(Evidence::Either, run)?;
    check_covered(&mut monitor, clients.len())?;
    let count = u32::try_from(clients.len()).expect("a fleet's size");
    let (plan, start) = plan_window(run, window, count)?;
    let session = &mut run.session;
    let mut lateness = Latency::new(LATENESS);
    let mut next = 0;
    let mut now = session.clock.now();
    let mut progress = Progress::start("reset", u64::from(count), plan.start());
    while session.live() > 0 {
        let due = plan.due_by(now).min(next + RESET_BATCH_MAX);
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
    let emptied = monitor.wait_until_empty(last, last + RESET_BOUND + timeout)?;
    let usage = start.until(&run.server.mark(run.clock.now())?);
    Ok(Release {
        expected: Outcome::Reset,
        planned: last,
        bound: Some(RESET_BOUND),
        emptied,
        orphans: None,
        lateness,
        usage,
        sources: monitor.sources(),
    }
    .findings())
}

/// Stops answering for all open clients, and waits until the server holds none.
pub(super) fn silence(timeout: Duration, run: &mut Run) -> Result<Findings, RunError> {
    let bound = run.server.deadlines.silence_timeout(SILENT_SLACK);
    let mut monitor = open_monitor(Evidence::Both, run)?;
    let open = run.session.open_clients().len();
    check_covered(&mut monitor, open)?;
    // Pings were not answered during that reading. One more turn of each ring answers them.
    for _ in 0..run.session.fleet.rings() {
        run.session.turn(Wait::No)?;
    }
    // No ring is entered from here on, so all clients stop reading at the same moment.
    run.session.fleet.silence_all();
    let silent_at = run.clock.now();
    let start = run.server.mark(silent_at)?;
    print_line(format_args!(
        "silent, waiting until the server releases all connections"
    ));
    let limit = silent_at + bound.unwrap_or_default() + timeout;
    let emptied = monitor.wait_until_empty(silent_at, limit)?;
    let usage = start.until(&run.server.mark(run.clock.now())?);
    let orphans = monitor.orphans()?;
    // Each client now reads the end of its connection.
    run.session.release_all(run.clock.now() + END_WAIT_MAX)?;
    Ok(Release {
        expected: Outcome::Released,
        planned: silent_at,
        bound,
        emptied,
        orphans,
        lateness: Latency::new(LATENESS),
        usage,
        sources: monitor.sources(),
    }
    .findings())
}

/// Returns a monitor of the sources that a mode needs.
fn open_monitor(evidence: Evidence, run: &Run) -> Result<ConnectionMonitor, RunError> {
    let table = match (evidence, &run.server.report) {
        (Evidence::Either, Some(_)) => None,
        (Evidence::Either, None) | (Evidence::Both, _) => Some(SocketTable::open()?),
    };
    Ok(run.connection_monitor(table))
}

/// Checks that the monitor shows all open connections, so that it is about the server under test.
fn check_covered(monitor: &mut ConnectionMonitor, opened: usize) -> Result<(), RunError> {
    let connections = u32::try_from(opened).expect("a fleet's size");
    let mut held = monitor.held()?;
    // A dump of the kernel's table may miss sockets while the table changes.
    for _ in 0..READINGS_MAX {
        if held.covers(connections) {
            return Ok(());
        }
        held = monitor.held()?;
    }
    Err(RunError::NotCovered { opened, held })
}

impl Release {
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
        let exposure = match (self.expected, after) {
            // The generator only waits.
            (Outcome::Released, _) => Exposure::None,
            // A kept bound stays valid however late the generator was.
            _ if failures.is_empty() => Exposure::None,
            (_, Some(after)) => Exposure::Lateness(after),
            (_, None) => Exposure::Cpu,
        };
        Findings {
            settings: vec![("known by", self.sources)],
            expected: vec![self.expected],
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
