//! The shutdown of a server, and its latencies.

use std::{io, process::ExitStatus, time::Duration};

use crate::{
    fleet::{event::Event, outcome::Outcome},
    measure::{clock::Moment, figures::Figures, latency::Latency},
    report::status::{Failures, Problem},
    run::Run,
    server::child::ChildServer,
    session::echo_exchange::EchoExchange,
};

/// Longest time beyond its close timeout that a server may take to end.
const SLACK: Duration = Duration::from_millis(800);

/// Time between two checks whether the server has ended.
pub(super) const EXIT_CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// The shutdown of a server.
#[derive(Debug)]
pub(super) struct Shutdown {
    /// The moment of SIGTERM.
    pub(super) at: Moment,
    /// Longest time that it may take, if the close timeout is known.
    bound: Option<Duration>,
    /// The end of the wait for the server.
    pub(super) limit: Moment,
    /// Moment and exit status of its end.
    pub(super) exit: Option<(Moment, ExitStatus)>,
    /// Latencies until its Close, and until its FIN.
    pub(super) close: Latency,
    pub(super) fin: Latency,
}

impl Shutdown {
    /// Sends SIGTERM to the server; `timeout` is the wait beyond the bound.
    pub(super) fn start(timeout: Duration, run: &Run) -> io::Result<Self> {
        let close_timeout = run.server.deadlines.close_timeout;
        let bound = close_timeout.map(|timeout| timeout + SLACK);
        let at = run.clock.now();
        let child = run.server.child.as_ref().expect("drain starts the server");
        child.terminate()?;
        Ok(Self {
            at,
            bound,
            limit: at + bound.unwrap_or_default() + timeout,
            exit: None,
            close: Latency::new("goodbye"),
            fin: Latency::new("fin"),
        })
    }

    /// Records the latency of an event.
    pub(super) fn handle(&mut self, event: &Event, now: Moment) {
        match event {
            Event::CloseReceived { .. } => self.close.record_planned(now, self.at),
            Event::Ended {
                outcome: Outcome::ShutDown,
                ..
            } => self.fin.record_planned(now, self.at),
            Event::Connected { .. }
            | Event::Opened { .. }
            | Event::Message { .. }
            | Event::Ended { .. }
            | Event::Released { .. } => {}
        }
    }

    /// Checks whether the process has ended.
    pub(super) fn check_exit(&mut self, child: &mut ChildServer, now: Moment) -> io::Result<()> {
        if self.exit.is_none() {
            self.exit = child.try_wait()?.map(|status| (now, status));
        }
        Ok(())
    }

    /// Adds the figures and the failures.
    pub(super) fn report(
        &self,
        exchange: &EchoExchange,
        mute: usize,
        figures: &mut Figures,
        failures: &mut Failures,
    ) {
        let counts = exchange.counts();
        figures.count("echo.messages", counts.sent);
        figures.count("echo.answered", counts.answered);
        figures.count("echo.cut_off", counts.cut_off + exchange.outstanding());
        figures.count("drain.mute", mute as u64);
        if let Some(bound) = self.bound {
            figures.seconds("drain.bound_seconds", bound);
        }
        match self.exit {
            None => failures.push("the server has not ended".to_owned()),
            Some((moment, status)) => {
                let after = moment.since(self.at);
                figures.seconds("drain.exit_seconds", after);
                if let Some(bound) = self.bound
                    && after > bound
                {
                    failures.push(format!(
                        "the server ended after {after:.1?}; the bound is {bound:.1?}"
                    ));
                }
                if !status.success() {
                    failures.push(format!("the server ended with {status}"));
                }
            }
        }
        if counts.altered + counts.out_of_order > 0 {
            let reason = "messages came back altered or out of order".to_owned();
            failures.add(Problem::MessagesWrong, reason);
        }
    }
}
