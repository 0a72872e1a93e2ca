//! A client whose messages come back, at a pace.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::server;
use crate::{
    child::Child,
    client,
    fanout::message::{self, FRAME_SIZE},
};

/// Between two looks at whether it is to go on, when nothing else is to be waited for.
const MOMENT: Duration = Duration::from_millis(1);

pub(super) struct Probe {
    socket: TcpStream,
    interval: Duration,
    sent: u64,
}

impl Probe {
    pub(super) fn connect(child: &Child, interval: Duration) -> Self {
        Self {
            socket: client::open(child.address, server::ECHOES, None),
            interval,
            sent: 0,
        }
    }

    /// Round trips for so long.
    pub(super) fn run_for(&mut self, time: Duration) -> Vec<Duration> {
        let end = now() + time;
        self.run(|| now() < end)
    }

    /// Round trips while something is done on another thread.
    pub(super) fn run_beside(&mut self, work: impl FnOnce()) -> Vec<Duration> {
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            let probe = scope.spawn(|| self.run(|| !is_done.load(Ordering::Relaxed)));
            work();
            is_done.store(true, Ordering::Relaxed);
            probe.join().expect("the server answers")
        })
    }

    /// Sends a message in each interval, whatever has become of those before; each counts from when
    /// it was due.
    fn run(&mut self, goes_on: impl Fn() -> bool) -> Vec<Duration> {
        let first = self.sent;
        let mut due = vec![now() + self.interval];
        let mut round_trips = Vec::new();
        loop {
            let next = due[due.len() - 1];
            if goes_on() && now() >= next {
                let mut frame = Vec::new();
                message::write_masked(self.sent, &mut frame);
                self.socket.write_all(&frame).expect("it is open");
                self.sent += 1;
                due.push(next + self.interval);
            } else if round_trips.len() as u64 == self.sent - first && !goes_on() {
                return round_trips;
            } else if self.is_answered_before(next.max(now() + MOMENT)) {
                let number = round_trips.len();
                let mut answer = [0; FRAME_SIZE];
                self.socket.read_exact(&mut answer).expect("it is echoed");
                round_trips.push(due[number].elapsed());
                let sent = message::delivered(first + number as u64);
                assert_eq!(answer, sent, "what came back was not sent");
            }
        }
    }

    fn is_answered_before(&self, due: Instant) -> bool {
        let limit = Timespec::try_from(due.saturating_duration_since(now()));
        let mut sockets = [PollFd::new(&self.socket, PollFlags::IN)];
        let ready = poll(&mut sockets, Some(&limit.expect("it is short")));
        ready.expect("no signal is handled") > 0
    }
}

/// How long something takes.
pub(super) fn took(work: impl FnOnce()) -> Duration {
    let start = now();
    work();
    start.elapsed()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads a clock")]
fn now() -> Instant {
    Instant::now()
}
