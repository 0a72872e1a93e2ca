//! Stall: the server is stopped for a while, and then the pings of all connections are due at once.

use std::{
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::Duration,
};

use rustix::process::setpriority_process;
use tidewheel::ring::Wait;

use crate::{
    fleet::{Fleet, event::Opening, target::Target},
    interrupt::{Interrupt, Interrupted},
    measure::{clock::Clock, figures::Figures, hiccup::HiccupMeter, latency::Latency, plan::Plan},
    progress::Progress,
    report::status::Failures,
    run::{Run, error::RunError, requirements::MESSAGE_BYTES_DEFAULT},
    session::{Session, echo_exchange::EchoExchange, load_model::LoadModel},
};

/// Connections of the probe, their messages per second, and the longest time for which they send; the
/// time is that of the stall otherwise.
const PROBE_CLIENTS: u32 = 100;
const PROBE_RATE: f64 = 200.0;
const PROBE_WINDOW_MAX: Duration = Duration::from_secs(20);

/// Time for the server to read the pongs that arrived during the stall, about two thousand of a million
/// connections.
const BACKLOG_TIME: Duration = Duration::from_millis(100);

/// Highest priority (nice(2)).
const PROBE_NICE: i32 = -20;

/// Stops the server for `stall` and continues it, and waits until all connections have been pinged.
/// Returns the latency of echoes meanwhile, and the scheduling latency of the machine. The echoes use
/// further connections, because the generator of the others is as busy with pings as the server.
///
/// # Errors
/// If there is no report.
pub(super) fn run(
    stall: Option<Duration>,
    timeout: Duration,
    run: &mut Run,
    figures: &mut Figures,
    failures: &mut Failures,
) -> Result<Vec<Latency>, RunError> {
    let (Some(stall), Some(child)) = (stall, &run.server.child) else {
        return Ok(Vec::new());
    };
    let cores = run.server.cores.as_ref();
    let session = &mut run.session;
    let probe = Probe {
        target: run.target,
        opening: run.opening,
        clock: run.clock,
        interrupt: run.interrupt.clone(),
        timeout,
        window: stall.min(PROBE_WINDOW_MAX),
        seed: run.seed,
    };
    thread::scope(|scope| {
        let (is_open, opened) = mpsc::channel();
        let (go, start_signal) = mpsc::channel();
        let probing = scope.spawn(move || probe.run(&is_open, &start_signal));
        // An error of the probe is returned when it is joined.
        let _ = opened.recv();
        let pings_before = session.fleet.pings();
        child.pause()?;
        let stalled = session.turn_until(session.clock.now() + stall);
        child.resume()?;
        let hiccups = HiccupMeter::start(cores, session.clock);
        let resumed = session.clock.now();
        let _ = go.send(());
        stalled?;

        let due = u64::from(session.live());
        let limit = resumed + PROBE_WINDOW_MAX + timeout;
        let mut progress = Progress::start("pinged", due, resumed);
        let (mut now, mut pings) = (resumed, 0);
        while (pings < due || !probing.is_finished()) && now < limit {
            now = session.turn(Wait::For(limit.since(now)))?;
            pings = session.fleet.pings() - pings_before;
            if pings < due {
                progress.set(pings, now);
            }
        }
        progress.finish(pings, now);
        figures.count("stall.pings", pings);
        if pings < due {
            failures.push(format!("{pings} pings arrived of {due} that were due"));
        }
        let exchange = probing.join().expect("the probe does not panic")?;
        exchange.failures(failures);
        Ok(vec![exchange.echo, hiccups.stop()])
    })
}

/// A second session, which runs on another thread.
struct Probe {
    target: &'static Target,
    opening: Opening,
    clock: Clock,
    interrupt: Interrupt,
    timeout: Duration,
    window: Duration,
    seed: u64,
}

impl Probe {
    /// Connects and reports that, and sends its messages after `go`.
    fn run(self, is_open: &Sender<()>, go: &Receiver<()>) -> Result<EchoExchange, RunError> {
        // With a high priority the probe measures the delay of the server, and not that of the generator
        // on the same core. Without the right to it, the latency includes a little of both.
        let _ = setpriority_process(None, PROBE_NICE);
        let fleet = Fleet::new(
            PROBE_CLIENTS,
            PROBE_CLIENTS,
            self.target,
            None,
            MESSAGE_BYTES_DEFAULT,
            self.seed,
        )?;
        let clock = self.clock;
        let mut session = Session::new(clock, self.interrupt, fleet, PROBE_CLIENTS, self.timeout);
        session.open_all(self.opening)?;
        let _ = is_open.send(());
        go.recv().map_err(|_| Interrupted)?;
        let mut exchange = EchoExchange::new(
            "probe",
            LoadModel::OpenLoop,
            PROBE_CLIENTS,
            MESSAGE_BYTES_DEFAULT,
            self.seed,
        );
        let messages = self.window.as_secs_f64() * PROBE_RATE;
        let plan = Plan::new(clock.now() + BACKLOG_TIME, self.window, messages as u32);
        let clients = session.open_clients();
        exchange.run_plan(&mut session, &clients, &plan, self.timeout)?;
        session.close_sockets()?;
        Ok(exchange)
    }
}
