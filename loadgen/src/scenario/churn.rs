//! Churn: connections open and end in many ways, and the server has to release all of them.

mod clients;
mod endings;

use std::time::Duration;

use clap::Args;
use tidewheel::cli::units::Span;
use tidewheel::ring::Wait;
use tidewheel_codec::CloseCode;

use crate::{
    fleet::outcome::Outcome,
    host::addresses::is_local,
    measure::{
        clock::Moment,
        figures::{FigureNames, Figures, Unit},
        latency::Latency,
        latency_names::LATENESS,
        plan::Plan,
        socket_table::SocketTable,
        usage::{descriptors, resident_bytes},
    },
    options::{
        common::CommonOptions,
        values::{duration, rate, size, span},
    },
    progress::Progress,
    report::{
        Exposure, Findings,
        metric_names::{LatencyForm, MetricNames},
        status::Failures,
    },
    run::{
        Run,
        error::RunError,
        requirements::{MESSAGE_BYTES_DEFAULT, Requirements},
    },
    scenario::{
        churn::{
            clients::{Clients, ConnectResult, SLACK},
            endings::{ENDING_NAMES, EndingGenerator},
        },
        phases::IDLE_BEFORE_WINDOW,
    },
    server::service::Service,
};

/// Help text of the scenario.
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

/// Default number of connections at a time.
const CONNECTIONS: u32 = 4_000;

/// Default deadlines of a child.
const DEADLINE: Duration = Duration::from_secs(1);

/// Time after which the server has returned memory to the system.
const SETTLE_TIME: Duration = Duration::from_millis(300);

/// A phase did not reach its rate if it took longer than planned by this time and by this share.
const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_SHARE_MIN: f64 = 0.05;

/// Number of new connections at the end.
const PROBES: u32 = 64;

/// Options of churn.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = crate::options::after_help::AFTER_HELP)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: CommonOptions,

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

/// Figures besides the counts of endings.
const FIGURES: FigureNames = &[
    ("churn.rate", Unit::PerSecond),
    ("generator.stall", Unit::Seconds),
];

/// Further figure of a server that has a report.
const CONNECTIONS_LEFT: FigureNames = &[("server.connections_left", Unit::Count)];

/// Further figure of a server on this host.
const SOCKETS_LEFT: FigureNames = &[("server.sockets_left", Unit::Count)];

/// Further figures of a server that the run starts.
const SERVER: FigureNames = &[
    ("server.descriptors_before", Unit::Count),
    ("server.descriptors_after", Unit::Count),
    ("server.resident_before", Unit::Bytes),
    ("server.resident_bytes", Unit::Bytes),
    ("server.resident_growth", Unit::Bytes),
];

/// Returns the requirements of churn.
pub(crate) fn requirements(options: &Options) -> Requirements {
    Requirements {
        scenario: "churn",
        connections: CONNECTIONS,
        service: Service::Echo,
        deadlines: options.common.deadlines.or(DEADLINE),
        message_size: MESSAGE_BYTES_DEFAULT,
        names: MetricNames::of_all(&options.common)
            .server_window(&options.common)
            .server_end(&options.common)
            .latencies(LatencyForm::WithUncorrected, &["open"])
            .latencies(LatencyForm::Corrected, &[LATENESS])
            .figures(FIGURES)
            .figures_if(options.common.server_reports(), CONNECTIONS_LEFT)
            .figures_if(options.common.server_is_local(), SOCKETS_LEFT)
            .figures(&ENDING_NAMES)
            .figures_if(options.common.server_is_started(), SERVER),
    }
}

/// Resources of the server when no connection is open.
#[derive(Clone, Copy, Debug, Default)]
struct IdleResources {
    /// Connections in its report, and sockets in the kernel's table.
    connections: Option<u64>,
    sockets: Option<u32>,
    descriptors: Option<u64>,
    resident: Option<u64>,
}

/// Runs churn.
///
/// # Errors
/// If there is no report.
pub(crate) fn run(options: &Options, run: &mut Run) -> Result<Findings, RunError> {
    let endings = EndingGenerator::new(run, options.common.url_is_given());
    let mut clients = Clients::new(run, endings, options.common.timeout);
    let start = run.server.mark(run.clock.now())?;
    run.session.reset_stall();
    // The connection of the report takes a descriptor of the server from now on.
    run.server.read_report()?;
    let descriptors_before = run.server.pid().map(descriptors).transpose()?;
    let warm_up = churn(
        options.warm_up,
        options.rate,
        "opened to warm up",
        run,
        &mut clients,
    )?;
    let before = idle_resources(run)?;
    run.session.reset_stall();
    let begun_before = run.session.begun();
    clients.open = Latency::new("open");
    clients.lateness = Latency::new(LATENESS);
    let opened_at = run.clock.now();
    let measured = churn(options.duration, options.rate, "opened", run, &mut clients)?;
    let churned = measured.last.since(opened_at);
    let stall = run.session.stall();
    let begun = run.session.begun() - begun_before;
    let after = idle_resources(run)?;
    let usage = start.until(&run.server.mark(run.clock.now())?);
    let mut failures = compare(options, descriptors_before, &before, &after);
    if run.server.report.is_some() {
        let report = run.server.read_report()?;
        if report.opens() != report.ends() {
            let (opens, ends) = (report.opens(), report.ends());
            failures.push(format!("the server reports {opens} opens and {ends} ends"));
        }
    }
    if let Some(failure) = probe(run)? {
        failures.push(failure);
    }
    for (name, phase) in [("warm-up", warm_up), ("measured part", measured)] {
        run.notes.extend(phase.note(name, run.clients));
    }
    let shortest = shortest_deadline(options, run);
    let mut figures = Figures::default();
    figures.rate("churn.rate", begun, churned);
    figures.seconds("generator.stall", stall);
    for (ending, count) in clients.counts() {
        figures.count(ending, count);
    }
    let mut add = |name, value: Option<u64>| {
        if let Some(value) = value {
            figures.count(name, value);
        }
    };
    add("server.connections_left", after.connections);
    add("server.sockets_left", after.sockets.map(u64::from));
    add("server.descriptors_before", descriptors_before);
    add("server.descriptors_after", after.descriptors);
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
        expected: vec![
            Outcome::Closed,
            Outcome::Reset,
            Outcome::Released,
            Outcome::Finished,
            Outcome::Failed,
            Outcome::TurnedAway,
        ],
        usage,
        lateness: clients.lateness,
        unread: None,
        latencies: vec![clients.open],
        figures,
        failures,
        exposure: Exposure::Deadlines { stall, shortest },
    })
}

/// Timing of the connects of a phase.
#[derive(Clone, Copy, Debug)]
struct Phase {
    planned: Duration,
    /// Time from the first to the last connect.
    opened_in: Duration,
    count: u32,
    /// Moment of the last connect.
    last: Moment,
    /// Number of waits of due connects: for a free client, and for pending connects.
    waits_for_end: u64,
    waits_for_connects: u64,
}

impl Phase {
    /// Returns a note with the reason if the rate was not reached.
    fn note(&self, name: &str, clients: u32) -> Option<String> {
        let late = self.opened_in.saturating_sub(self.planned);
        if late < DELAY_MIN.max(self.planned.mul_f64(DELAY_SHARE_MIN)) {
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

/// Opens connections for `duration`, each with a random ending, and waits until all have ended.
fn churn(
    duration: Duration,
    rate: u32,
    verb: &'static str,
    run: &mut Run,
    clients: &mut Clients,
) -> Result<Phase, RunError> {
    let count = duration.as_secs_f64() * f64::from(rate);
    let plan = Plan::new(run.clock.now() + IDLE_BEFORE_WINDOW, duration, count as u32);
    let mut opening = Some(Progress::start(verb, u64::from(plan.count()), plan.start()));
    let mut ending: Option<(Progress, u32)> = None;
    let session = &mut run.session;
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
            match clients.connect(session, plan.due(next), now) {
                ConnectResult::Started => {}
                ConnectResult::AllInUse => {
                    phase.waits_for_end += 1;
                    break;
                }
                ConnectResult::ConnectsPending => {
                    phase.waits_for_connects += 1;
                    break;
                }
            }
            next += 1;
            phase.last = now;
        }
        clients.expire(session, now);
        let wait = match (next < due, next < plan.count()) {
            // A client has to become free, or a pending connect has to complete.
            (true, _) | (false, false) => clients.next_deadline(now),
            (false, true) => clients.next_deadline(now).min(plan.due(next).since(now)),
        };
        now = session.turn(Wait::For(wait))?;
        let mut events = std::mem::take(&mut session.events);
        for event in events.drain(..) {
            clients.handle(session, &event, now);
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
    clients.reset();
    if let Some((progress, all)) = ending {
        progress.finish(u64::from(all), now);
    }
    phase.opened_in = phase.last.since(plan.start());
    Ok(phase)
}

/// Waits until the server holds no connection, and reads its resources.
fn idle_resources(run: &mut Run) -> Result<IdleResources, RunError> {
    let table = match is_local(run.target.address) {
        true => Some(SocketTable::open()?),
        false => None,
    };
    let mut monitor = run.connection_monitor(table);
    let now = run.clock.now();
    let deadlines = run.server.deadlines;
    let bound = deadlines.silence_timeout(SLACK).unwrap_or(DEADLINE * 10);
    let handshake = deadlines.handshake_timeout.unwrap_or_default();
    if monitor.has_source() {
        monitor.wait_until_empty(now, now + bound.max(handshake + SLACK))?;
    }
    run.session.turn_until(run.clock.now() + SETTLE_TIME)?;
    let held = monitor.held()?;
    let pid = run.server.pid();
    Ok(IdleResources {
        connections: held.report,
        sockets: held.sockets,
        descriptors: pid.map(descriptors).transpose()?,
        resident: pid.map(resident_bytes).transpose()?,
    })
}

/// Returns the shortest deadline of server and generator.
fn shortest_deadline(options: &Options, run: &Run) -> Duration {
    let deadlines = run.server.deadlines;
    [
        deadlines.ping_timeout,
        deadlines.close_timeout,
        deadlines.handshake_timeout,
    ]
    .into_iter()
    .flatten()
    .fold(options.common.timeout, Duration::min)
}

/// Returns a failure for each resource that the server has not released.
fn compare(
    options: &Options,
    descriptors: Option<u64>,
    before: &IdleResources,
    after: &IdleResources,
) -> Failures {
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

/// Opens new connections and closes them; returns the failure of some.
fn probe(run: &mut Run) -> Result<Option<String>, RunError> {
    let (opening, probes) = (run.opening, PROBES.min(run.clients));
    let session = &mut run.session;
    let closed = session.tally.count(Outcome::Closed);
    let now = session.clock.now();
    for client in 0..probes {
        session.connect(client, opening, now);
    }
    let limit: Moment = now + session.timeout;
    let mut now = now;
    while session.opening() > 0 && now < limit {
        now = session.turn(Wait::For(limit.since(now)))?;
    }
    for client in 0..probes {
        session
            .fleet
            .start_closing(client, CloseCode::NORMAL_CLOSURE, now);
    }
    session.release_all(now + session.timeout)?;
    let right = session.tally.count(Outcome::Closed) - closed;
    Ok((right < u64::from(probes))
        .then(|| format!("only {right} of {probes} new connections at the end echoed and closed")))
}
