//! A server that has stood still: when it goes on, the pings of all connections are due at once.

use std::{
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::Duration,
};

use rustix::process::setpriority_process;
use tidewheel::ring::Wait;

use super::Options;
use crate::{
    clock::Clock,
    error::RunError,
    figures::Figures,
    fleet::{Approach, Fleet, Target},
    hiccup::HiccupMeter,
    interrupt::{Interrupt, Interrupted},
    latency::Latency,
    plan::Plan,
    progress::Progress,
    session::Session,
    status::Failures,
    talk::{Pace, Talk},
    trial::{SMALL, Trial},
};

/// Connections of the probe, and the messages that they send in all in a second, for as long as the
/// server has stood still, but no longer than this.
const CLIENTS: u32 = 100;
const RATE: f64 = 200.0;
const WINDOW_MAX: Duration = Duration::from_secs(20);

/// The server first reads what arrived while it stood still: the answers to its last pings, some two
/// thousand of a million.
const BACKLOG: Duration = Duration::from_millis(100);

/// The highest (nice(2)).
const PRIORITY: i32 = -20;

/// Stops the server and lets it go on, where that was asked for, and waits until all have been
/// pinged. The latencies are that of echoes soon after, to further connections, for those that are
/// pinged are as busy with it as the server is, and the machine's own at that time.
///
/// # Errors
/// If there is nothing to report.
pub(super) fn run(
    options: &Options,
    trial: &mut Trial,
    figures: &mut Figures,
    failures: &mut Failures,
) -> Result<Vec<Latency>, RunError> {
    let (Some(stall), Some(child)) = (options.stall, &trial.server.child) else {
        return Ok(Vec::new());
    };
    let cores = trial.server.cores.as_ref();
    let session = &mut trial.session;
    let probe = Probe {
        target: trial.target,
        approach: trial.approach,
        clock: trial.clock,
        interrupt: trial.interrupt.clone(),
        timeout: options.common.timeout,
        window: stall.min(WINDOW_MAX),
        seed: trial.seed,
    };
    thread::scope(|scope| {
        let (is_open, opened) = mpsc::channel();
        let (go, gone) = mpsc::channel();
        let probing = scope.spawn(move || probe.run(&is_open, &gone));
        // If it did not come so far, it says so when it is joined.
        let _ = opened.recv();
        let pings_before = session.fleet.pings();
        child.stand_still()?;
        let stood = session.turn_until(session.clock.now() + stall);
        child.go_on()?;
        let hiccups = HiccupMeter::start(cores, session.clock);
        let begin = session.clock.now();
        let _ = go.send(());
        stood?;

        let due = u64::from(session.live());
        let limit = begin + WINDOW_MAX + options.common.timeout;
        let mut progress = Progress::start("pinged", due, begin);
        let (mut now, mut pings) = (begin, 0);
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
            failures.push(format!("{pings} pings came, of {due} that were due"));
        }
        let talk = probing.join().expect("the probe does not panic")?;
        talk.failures(failures);
        Ok(vec![talk.echo, hiccups.stop()])
    })
}

/// A generator of its own, on a thread of its own.
struct Probe {
    target: &'static Target,
    approach: Approach,
    clock: Clock,
    interrupt: Interrupt,
    timeout: Duration,
    window: Duration,
    seed: u64,
}

impl Probe {
    /// Connects, says that it has, and sends its messages when it is told to.
    fn run(self, is_open: &Sender<()>, go: &Receiver<()>) -> Result<Talk, RunError> {
        // What it measures is the server's delay, not that of the generator beside it. Without the right
        // to that, it is a little of both.
        let _ = setpriority_process(None, PRIORITY);
        let fleet = Fleet::new(CLIENTS, CLIENTS, self.target, None, SMALL, self.seed)?;
        let clock = self.clock;
        let mut session = Session::new(clock, self.interrupt, fleet, CLIENTS, self.timeout);
        session.open_all(self.approach)?;
        let _ = is_open.send(());
        go.recv().map_err(|_| Interrupted)?;
        let mut talk = Talk::new("probe", Pace::Open, CLIENTS, SMALL, self.seed);
        let messages = self.window.as_secs_f64() * RATE;
        let plan = Plan::new(clock.now() + BACKLOG, self.window, messages as u32);
        let clients = session.open_clients();
        talk.follow(&mut session, &clients, &plan, self.timeout)?;
        session.hang_up()?;
        Ok(talk)
    }
}
