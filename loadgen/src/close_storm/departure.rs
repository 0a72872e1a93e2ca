//! Modes reset and silent: the clients are gone, and the server has to let go of them.

use std::time::Duration;

use tidewheel::ring::Wait;

use super::{Findings, LEAD, MARK_LEAD, RESET_BOUND, SILENT_SLACK, Server, StormError};
use crate::{
    cli::CloseStorm,
    clock::{Clock, Moment},
    fleet::Target,
    interrupt::Interrupt,
    latency::Distribution,
    plan::Plan,
    progress::Progress,
    report::EmptiedFigures,
    session::Session,
    socket_table::SocketTable,
    watch::{Emptied, Watch},
};

/// Resets that are submitted at a time; the moment written down is that before the first.
const BATCH: u32 = 256;

/// What the kernel has to tell a client after the server let go of it, it tells at once.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the figure of a mode is known by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Evidence {
    /// The server's report if it has one, else the kernel's table.
    Either,
    /// The server's report if it has one, and the kernel's table.
    Both,
}

/// Resets all open clients as planned, and waits until the server holds none.
pub(super) fn reset(
    options: &CloseStorm,
    server: &Server,
    target: &Target,
    session: &mut Session<'_>,
) -> Result<Findings, StormError> {
    session.fleet.deafen();
    while !session.fleet.is_deaf() {
        session.turn(Wait::Forever)?;
    }
    let clients = session.open_clients();
    let (clock, interrupt) = (session.clock, session.interrupt.clone());
    let mut watch = open_watch(Evidence::Either, server, target, &clock, &interrupt)?;
    check_covered(&mut watch, clients.len())?;
    let count = u32::try_from(clients.len()).expect("a fleet's size");
    let mark_at = clock.now() + LEAD;
    let plan = Plan::new(mark_at + MARK_LEAD, options.window, count);
    session.turn_until(mark_at)?;
    let start = server.mark(plan.start())?;
    session.turn_until(plan.start())?;
    let mut lateness = Distribution::new();
    let mut next = 0;
    let mut now = clock.now();
    let mut progress = Progress::start("reset", count, plan.start());
    while session.live() > 0 {
        let due = plan.due_by(now).min(next + BATCH);
        for event in next..due {
            if session.fleet.reset(clients[event as usize]) {
                lateness.record(now.since(plan.due(event)));
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
        progress.set(count - session.live(), now);
    }
    progress.finish(count, now);
    session.release_all(now)?;
    let last = if count > 0 {
        plan.due(count - 1)
    } else {
        plan.start()
    };
    let emptied = watch.until_empty(last, last + RESET_BOUND + options.timeout)?;
    let usage = start.until(&server.mark(clock.now())?);
    Ok(findings(
        &watch,
        last,
        Some(RESET_BOUND),
        emptied,
        None,
        lateness,
        usage,
    ))
}

/// Lets all open clients fall silent, and waits until the server holds none.
pub(super) fn silence(
    options: &CloseStorm,
    server: &Server,
    target: &Target,
    session: &mut Session<'_>,
) -> Result<Findings, StormError> {
    let deadlines = [
        options.ping_interval,
        options.ping_timeout,
        options.close_timeout,
    ];
    let bound = deadlines
        .into_iter()
        .try_fold(SILENT_SLACK, |sum, deadline| Some(sum + deadline?));
    let (clock, interrupt) = (session.clock, session.interrupt.clone());
    let mut watch = open_watch(Evidence::Both, server, target, &clock, &interrupt)?;
    check_covered(&mut watch, session.open_clients().len())?;
    // Pings were not answered while that was read. One more turn answers them all.
    session.turn(Wait::No)?;
    // From here on nobody enters the ring: nothing is read from any socket, at one moment for all.
    session.fleet.fall_silent();
    let silent_at = clock.now();
    let start = server.mark(silent_at)?;
    eprintln!("silent, waiting for the server to let go");
    let limit = silent_at + bound.unwrap_or_default() + options.timeout;
    let emptied = watch.until_empty(silent_at, limit)?;
    let usage = start.until(&server.mark(clock.now())?);
    let orphans = watch.orphans()?;
    // Now each client looks at what the server has left it.
    session.release_all(clock.now() + LAST_WORDS)?;
    let lateness = Distribution::new();
    Ok(findings(
        &watch, silent_at, bound, emptied, orphans, lateness, usage,
    ))
}

/// Chooses where to read what the server holds.
fn open_watch<'a>(
    evidence: Evidence,
    server: &'a Server,
    target: &Target,
    clock: &'a Clock,
    interrupt: &'a Interrupt,
) -> Result<Watch<'a>, StormError> {
    let report = server.report.as_ref();
    let table = match (evidence, report) {
        (Evidence::Either, Some(_)) => None,
        (Evidence::Either, None) | (Evidence::Both, _) => {
            Some((SocketTable::open()?, target.address.port()))
        }
    };
    Ok(Watch {
        report,
        table,
        clock,
        interrupt,
    })
}

/// Makes sure that what is watched is what is open: an empty table must mean something.
fn check_covered(watch: &mut Watch<'_>, opened: usize) -> Result<(), StormError> {
    let held = watch.held()?;
    let connections = u32::try_from(opened).expect("a fleet's size");
    if held.covers(connections) {
        return Ok(());
    }
    Err(StormError::NotCovered { opened, held })
}

fn findings(
    watch: &Watch<'_>,
    planned: Moment,
    bound: Option<Duration>,
    emptied: Option<Emptied>,
    orphans: Option<u32>,
    lateness: Distribution,
    usage: crate::usage::Usage,
) -> Findings {
    let after = emptied.map(|emptied| emptied.at.since(planned));
    let mut failures = Vec::new();
    match (after, bound) {
        (None, _) => failures.push("the server still holds connections".to_owned()),
        (Some(after), Some(bound)) if after > bound => failures.push(format!(
            "the server was empty after {after:.1?}; the bound is {bound:.1?}"
        )),
        (Some(_), _) => {}
    }
    if let Some(orphans @ 1..) = orphans {
        failures.push(format!(
            "the kernel still keeps {orphans} sockets for the server"
        ));
    }
    let known_by = [
        watch.report.map(|_| "the server's own report"),
        watch.table.as_ref().map(|_| "the kernel's socket table"),
    ];
    Findings {
        usage,
        lateness,
        close: None,
        emptied: Some(EmptiedFigures {
            known_by: known_by.into_iter().flatten().collect(),
            seconds: after.map(|after| after.as_secs_f64()),
            resolution_seconds: emptied.map(|emptied| emptied.resolution.as_secs_f64()),
            bound_seconds: bound.map(|bound| bound.as_secs_f64()),
            orphans,
        }),
        failures,
    }
}
