//! A client that sends messages at a fixed rate, and measures the round trips of their echoes.

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
    fanout::message::{self, FRAME_SIZE},
    handshake,
    server_process::ServerProcess,
};

/// Time between two checks for the end of the measurement.
const CHECK_INTERVAL: Duration = Duration::from_millis(1);

pub(crate) struct EchoClient {
    socket: TcpStream,
    interval: Duration,
    /// Messages sent so far.
    sent: u64,
}

impl EchoClient {
    /// Connects to a server. The client will send a message in each `interval`.
    pub(crate) fn connect(server: &ServerProcess, interval: Duration) -> Self {
        Self {
            socket: handshake::open(server.address, server::ECHO_PATH, None),
            interval,
            sent: 0,
        }
    }

    /// Returns the round trips of the messages of a period.
    pub(crate) fn run_for(&mut self, period: Duration) -> Vec<Duration> {
        let end = now() + period;
        self.run(|| now() < end)
    }

    /// Returns the round trips of the messages that are sent while `work` runs on another thread.
    pub(crate) fn run_during(&mut self, work: impl FnOnce()) -> Vec<Duration> {
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            let client = scope.spawn(|| self.run(|| !is_done.load(Ordering::Relaxed)));
            work();
            is_done.store(true, Ordering::Relaxed);
            client.join().expect("the server echoes")
        })
    }

    /// Sends a message in each interval without waiting for echoes. A round trip counts from the planned send.
    fn run(&mut self, goes_on: impl Fn() -> bool) -> Vec<Duration> {
        let first = self.sent;
        let mut due = vec![now() + self.interval];
        let mut round_trips = Vec::new();
        loop {
            let next = due[due.len() - 1];
            if goes_on() && now() >= next {
                let mut frame = Vec::new();
                message::write_masked(self.sent, &mut frame);
                self.socket.write_all(&frame).expect("the socket is open");
                self.sent += 1;
                due.push(next + self.interval);
            } else if round_trips.len() as u64 == self.sent - first && !goes_on() {
                return round_trips;
            } else if self.is_readable_before(next.max(now() + CHECK_INTERVAL)) {
                let number = round_trips.len();
                let mut echo = [0; FRAME_SIZE];
                self.socket
                    .read_exact(&mut echo)
                    .expect("the server echoes");
                round_trips.push(due[number].elapsed());
                let sent = message::delivered(first + number as u64);
                assert_eq!(echo, sent, "the echo is the message");
            }
        }
    }

    fn is_readable_before(&self, due: Instant) -> bool {
        let limit = Timespec::try_from(due.saturating_duration_since(now()));
        let limit = limit.expect("the interval is short");
        let mut sockets = [PollFd::new(&self.socket, PollFlags::IN)];
        poll(&mut sockets, Some(&limit)).expect("no signal handler runs") > 0
    }
}

/// Returns the time that `work` takes.
pub(super) fn duration_of(work: impl FnOnce()) -> Duration {
    let start = now();
    work();
    start.elapsed()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads a clock")]
fn now() -> Instant {
    Instant::now()
}
