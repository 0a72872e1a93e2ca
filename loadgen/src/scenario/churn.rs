//! Churn: connections come and go in all ways, and nothing of them may stay.

mod errand;
mod way;

use std::time::Duration;

use clap::Args;
use tidewheel::cli::units::Span;
use tidewheel::ring::Wait;

use self::{
    errand::{Begin, Errands},
    way::{WAY_NAMES, Ways},
};
use super::LEAD;
use crate::{
    child::Service,
    cli::{Common, duration, rate, size, span},
    clock::Moment,
    error::RunError,
    figures::{Figures, Unit},
    latency::Latency,
    limits,
    names::{Counted, FigureNames, Names},
    outcome::Outcome,
    plan::Plan,
    progress::Progress,
    report::{Exposure, Findings, LATENESS},
    socket_table::SocketTable,
    status::Failures,
    trial::{Needs, SMALL, Trial},
    usage::{descriptors, resident_bytes},
    watch::Watch,
};

pub(crate) const ABOUT: &str = "\
Open and end connections in many ways for a while, and check that the server keeps nothing of \
them.

The generator opens --rate connections a second, first during --warm-up, then during --duration. \
At most --connections are open at a time. While all of these are in use, the rate is lower and \
the run takes longer; the report says so. Each connection has its first message echoed, sends up \
to four more, and ends in one of these ways, chosen at random:

  close      Close with a valid code. Expected: the same code, then FIN.
  reset      RST.
  fin        FIN without Close. Expected: the server ends the connection too.
  mid-frame  RST or FIN in the middle of a frame.
  silent     The client answers nothing any more. Expected: the server ends the connection \
within ping interval + ping timeout + close timeout + 0.8 s.
  bad frame  One of nine violations of the protocol. Expected: Close 1002, 1007 or 1009, then \
FIN.
  slow       256 KiB to echo, none of which the client reads. RST after 0.5 s.
  no FIN     Close, then neither reading nor FIN for a while. Then RST.
  handshake  RST, FIN, silence or an invalid request instead of the opening handshake, or in the \
middle of it. Expected: the server ends the connection.

After the warm-up, and again at the end, all connections are closed and the generator reads what \
the server still holds: from its metrics, from /proc/PID, and from the kernel's socket table.

The run passes if each connection ended as expected; no connection and no socket is left; the \
server has no more file descriptors than at the start; it counts as many closes as opens; its \
resident memory is at most --rss-bound above that after the warm-up; and 64 new connections at \
the end echo and close correctly. All deadlines of a child are 1 s by default. With --url only \
the ends of connections and the sockets of a local server are checked; --admin and --server-cmd \
add the other checks.

Latency `open` counts from the planned connect to the first echo. The checks do not depend on a \
punctual generator. So a run is INVALID only if connections ended unexpectedly and either the \
generator did not run for half of the server's shortest deadline, or other threads had the \
server's CPU for a quarter of the time. The figure churn.rate is the rate that was reached.";

/// Clients at most at one time, where nothing else was said.
const CONNECTIONS: u32 = 4_000;

/// The deadlines of a child, where none were given.
const DEADLINE: Duration = Duration::from_secs(1);

/// What a server may take beyond its deadlines.
const SLACK: Duration = Duration::from_millis(800);

/// The server gives memory back to the system in so long.
const REST: Duration = Duration::from_millis(300);

/// A phase that took this much longer than planned, and this share of its time, did not reach its rate.
const LATE_MIN: Duration = Duration::from_millis(100);
const LATE_SHARE_MIN: f64 = 0.05;

/// New connections at the end.
const PROBES: u32 = 64;

/// The options of the churn.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = crate::cli::EXIT_STATUS)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

    /// Time for which connections are opened after the warm-up
    #[arg(long, value_name = "DURATION", value_parser = span, default_value = "30s")]
    duration: Duration,

    /// Time for which connections are opened before the first reading of memory
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    warm_up: Duration,

    /// Connections to open in a second, at most
    #[arg(long, value_name = "N", value_parser = rate, default_value = "2000")]
    rate: u32,

    /// Highest permitted growth of the server's resident memory after the warm-up
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "4MiB")]
    rss_bound: usize,
}

/// Figures besides those of the ways.
const FIGURES: FigureNames = &[
    ("churn.rate", Unit::PerSecond),
    ("generator.stall", Unit::Seconds),
];

/// Of a server that reports what it holds.
const CONNECTIONS_LEFT: FigureNames = &[("server.connections_left", Unit::Count)];

/// Of a server on this host.
const SOCKETS_LEFT: FigureNames = &[("server.sockets_left", Unit::Count)];

/// Figures of a server that is started here.
const SERVER: FigureNames = &[
    ("server.descriptors_before", Unit::Count),
    ("server.descriptors_after", Unit::Count),
    ("server.resident_before", Unit::Bytes),
    ("server.resident_bytes", Unit::Bytes),
    ("server.resident_growth", Unit::Bytes),
];

/// What a churn needs.
pub(crate) fn needs(options: &Options) -> Needs {
    Needs {
        scenario: "churn",
        connections: CONNECTIONS,
        service: Service::Echo,
        deadlines: options.common.deadlines.or(DEADLINE),
        message_size: SMALL,
        names: Names::of_all(&options.common)
            .server_window(&options.common)
            .server_end(&options.common)
            .latencies(Counted::Twice, &["open"])
            .latencies(Counted::Once, &[LATENESS])
            .figures(FIGURES)
            .figures_if(options.common.server_reports(), CONNECTIONS_LEFT)
            .figures_if(options.common.server_is_local(), SOCKETS_LEFT)
            .figures(&WAY_NAMES)
            .figures_if(options.common.server_is_started(), SERVER),
    }
}

/// What the server holds when no connection is open.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    /// Connections by its report, and sockets by the kernel's table.
    connections: Option<u64>,
    sockets: Option<u32>,
    descriptors: Option<u64>,
    resident: Option<u64>,
}

/// Runs the churn.
///
/// # Errors
/// If there is nothing to report.
pub(crate) fn run(options: &Options, trial: &mut Trial) -> Result<Findings, RunError> {
    let ways = Ways::of(trial, options.common.url_is_given());
    let mut errands = Errands::new(trial, ways, options.common.timeout);
    let start = trial.server.mark(trial.clock.now())?;
    trial.session.forget_stalls();
    // Reading the report takes a descriptor of the server, from now on.
    trial.server.read_report()?;
    let descriptors_before = trial.server.pid().map(descriptors).transpose()?;
    let warm_up = churn(
        options.warm_up,
        options.rate,
        "opened to warm up",
        trial,
        &mut errands,
    )?;
    let before = rest(trial)?;
    trial.session.forget_stalls();
    let begun_before = trial.session.begun();
    errands.open = Latency::new("open");
    errands.lateness = Latency::new(LATENESS);
    let opened_at = trial.clock.now();
    let measured = churn(
        options.duration,
        options.rate,
        "opened",
        trial,
        &mut errands,
    )?;
    let churned = measured.last.since(opened_at);
    let stall = trial.session.stall();
    let begun = trial.session.begun() - begun_before;
    let after = rest(trial)?;
    let usage = start.until(&trial.server.mark(trial.clock.now())?);
    let mut failures = compare(options, descriptors_before, &before, &after);
    if trial.server.report.is_some() {
        let report = trial.server.read_report()?;
        if report.opens() != report.ends() {
            let (opens, ends) = (report.opens(), report.ends());
            failures.push(format!("the server reports {opens} opens and {ends} ends"));
        }
    }
    if let Some(failure) = probe(trial)? {
        failures.push(failure);
    }
    for (name, phase) in [("warm-up", warm_up), ("measured part", measured)] {
        trial.notes.extend(phase.note(name, trial.clients));
    }
    let shortest = shortest(options, trial);
    let mut figures = Figures::default();
    figures.rate("churn.rate", begun, churned);
    figures.seconds("generator.stall", stall);
    for (way, count) in errands.counts() {
        figures.count(way, count);
    }
    let mut told = |name, value: Option<u64>| {
        if let Some(value) = value {
            figures.count(name, value);
        }
    };
    told("server.connections_left", after.connections);
    told("server.sockets_left", after.sockets.map(u64::from));
    told("server.descriptors_before", descriptors_before);
    told("server.descriptors_after", after.descriptors);
    if let (Some(before), Some(after)) = (before.resident, after.resident) {
        figures.bytes("server.resident_before", before as f64);
        figures.bytes("server.resident_bytes", after as f64);
        figures.bytes("server.resident_growth", after as f64 - before as f64);
    }
    Ok(Findings {
        settings: vec![
            ("duration", Span(options.duration).to_string()),
            ("rate", options.rate.to_string()),
        ],
        asked: vec![
            Outcome::Closed,
            Outcome::Reset,
            Outcome::LetGo,
            Outcome::Finished,
            Outcome::Failed,
            Outcome::TurnedAway,
        ],
        usage,
        lateness: errands.lateness,
        unread: None,
        latencies: vec![errands.open],
        figures,
        failures,
        exposure: Exposure::Deadlines { stall, shortest },
    })
}

/// The opening of the connections of a phase.
#[derive(Clone, Copy, Debug)]
struct Phase {
    planned: Duration,
    /// From the first to the last.
    opened_in: Duration,
    count: u32,
    /// When the last was begun.
    last: Moment,
    /// Connections that had to wait when they were due, by reason.
    waits_for_end: u64,
    waits_for_connects: u64,
}

impl Phase {
    /// Says that the rate was not reached, and why, if so.
    fn note(&self, name: &str, clients: u32) -> Option<String> {
        let late = self.opened_in.saturating_sub(self.planned);
        if late < LATE_MIN.max(self.planned.mul_f64(LATE_SHARE_MIN)) {
            return None;
        }
        let rate = |time: Duration| f64::from(self.count) / time.as_secs_f64().max(1e-9);
        let reason = match self.waits_for_end >= self.waits_for_connects {
            true => format!("all {clients} connections were in use (--connections)"),
            false => "the server was slow to accept connections".to_owned(),
        };
        Some(format!(
            "the {name} took {late:.1?} longer than the {} planned: {reason}, so that {:.0} \
             connections a second were opened, and not {:.0}",
            Span(self.planned),
            rate(self.opened_in),
            rate(self.planned)
        ))
    }
}

/// Opens connections for `duration`, and lets each end in its way; all have ended then.
fn churn(
    duration: Duration,
    rate: u32,
    verb: &'static str,
    trial: &mut Trial,
    errands: &mut Errands,
) -> Result<Phase, RunError> {
    let count = duration.as_secs_f64() * f64::from(rate);
    let plan = Plan::new(trial.clock.now() + LEAD, duration, count as u32);
    let mut opening = Some(Progress::start(verb, u64::from(plan.count()), plan.start()));
    let mut ending: Option<(Progress, u32)> = None;
    let session = &mut trial.session;
    let mut next = 0;
    let mut now = session.clock.now();
    let mut phase = Phase {
        planned: duration,
        opened_in: Duration::ZERO,
        count: plan.count(),
        last: now,
        waits_for_end: 0,
        waits_for_connects: 0,
    };
    while next < plan.count() || session.live() > 0 {
        let due = plan.due_by(now);
        while next < due {
            match errands.begin(session, plan.due(next), now) {
                Begin::Begun => {}
                Begin::AllInUse => {
                    phase.waits_for_end += 1;
                    break;
                }
                Begin::ConnectsUnderWay => {
                    phase.waits_for_connects += 1;
                    break;
                }
            }
            next += 1;
            phase.last = now;
        }
        errands.pass_deadlines(session, now);
        let wait = match (next < due, next < plan.count()) {
            // A client, or a connect, is to end first.
            (true, _) | (false, false) => errands.next_deadline(now),
            (false, true) => errands.next_deadline(now).min(plan.due(next).since(now)),
        };
        now = session.turn(Wait::For(wait))?;
        let mut events = std::mem::take(&mut session.events);
        for event in events.drain(..) {
            errands.note(session, &event, now);
        }
        session.events = events;
        if let Some((progress, all)) = &mut ending {
            progress.set(u64::from(*all - session.live()), now);
        } else if next < plan.count() {
            if let Some(progress) = &mut opening {
                progress.set(u64::from(next), now);
            }
        } else if let Some(progress) = opening.take() {
            progress.finish(u64::from(next), now);
            let all = session.live();
            ending = Some((Progress::start("ended", u64::from(all), now), all));
        }
    }
    session.release_all(now)?;
    errands.all_are_free();
    if let Some((progress, all)) = ending {
        progress.finish(u64::from(all), now);
    }
    phase.opened_in = phase.last.since(plan.start());
    Ok(phase)
}

/// Waits until the server has let go of everything, and reads what it holds then.
fn rest(trial: &mut Trial) -> Result<Rest, RunError> {
    let table = if limits::is_local(trial.target.address) {
        Some((SocketTable::open()?, trial.target.address.port()))
    } else {
        None
    };
    let mut watch = Watch { table };
    let now = trial.clock.now();
    let deadlines = trial.server.deadlines;
    let bound = deadlines.silence(SLACK).unwrap_or(DEADLINE * 10);
    let handshake = deadlines.handshake_timeout.unwrap_or_default();
    if trial.server.report.is_some() || watch.table.is_some() {
        watch.until_empty(trial, now, now + bound.max(handshake + SLACK))?;
    }
    trial.session.turn_until(trial.clock.now() + REST)?;
    let held = watch.held(trial)?;
    let pid = trial.server.pid();
    Ok(Rest {
        connections: held.report,
        sockets: held.sockets,
        descriptors: pid.map(descriptors).transpose()?,
        resident: pid.map(resident_bytes).transpose()?,
    })
}

/// The shortest time in which anybody has to react.
fn shortest(options: &Options, trial: &Trial) -> Duration {
    let deadlines = trial.server.deadlines;
    [
        deadlines.ping_timeout,
        deadlines.close_timeout,
        deadlines.handshake_timeout,
    ]
    .into_iter()
    .flatten()
    .fold(options.common.timeout, Duration::min)
}

/// What the server has kept.
fn compare(options: &Options, descriptors: Option<u64>, before: &Rest, after: &Rest) -> Failures {
    let mut failures = Failures::default();
    if let Some(connections @ 1..) = after.connections {
        failures.push(format!("the server still holds {connections} connections"));
    }
    if let Some(sockets @ 1..) = after.sockets {
        failures.push(format!(
            "the kernel still keeps {sockets} sockets for the server"
        ));
    }
    if let (Some(before), Some(after)) = (descriptors, after.descriptors)
        && after > before
    {
        failures.push(format!(
            "the server had {before} descriptors at the start and has {after}"
        ));
    }
    if let (Some(before), Some(after)) = (before.resident, after.resident)
        && after > before + options.rss_bound as u64
    {
        let grown = (after - before) as f64 / 1048576.0;
        let bound = options.rss_bound as f64 / 1048576.0;
        failures.push(format!(
            "the server's resident memory grew by {grown:.1} MiB; the bound is {bound:.1} MiB"
        ));
    }
    failures
}

/// Opens new connections, and closes them; says what failed.
fn probe(trial: &mut Trial) -> Result<Option<String>, RunError> {
    let (approach, probes) = (trial.approach, PROBES.min(trial.clients));
    let session = &mut trial.session;
    let closed = session.tally.count(Outcome::Closed);
    let now = session.clock.now();
    for client in 0..probes {
        session.connect(client, approach, now);
    }
    let limit: Moment = now + session.timeout;
    let mut now = now;
    while session.opening() > 0 && now < limit {
        now = session.turn(Wait::For(limit.since(now)))?;
    }
    for client in 0..probes {
        session
            .fleet
            .start_closing(client, crate::fleet::NORMAL, now);
    }
    session.release_all(now + session.timeout)?;
    let right = session.tally.count(Outcome::Closed) - closed;
    Ok((right < u64::from(probes)).then(|| {
        format!("only {right} of {probes} new connections echoed and closed after all that")
    }))
}
