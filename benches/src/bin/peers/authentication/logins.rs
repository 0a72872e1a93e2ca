//! Clients that are authenticated, and leave.

use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use super::{DURATION, LOGIN_PATH};
use crate::handshake;

/// Clients that are authenticated.
pub(super) struct Logins {
    server: SocketAddr,
    clients: usize,
}

impl Logins {
    pub(super) fn new(server: SocketAddr, clients: usize) -> Self {
        Self { server, clients }
    }

    fn begin(&self) -> TcpStream {
        handshake::begin(self.server, LOGIN_PATH)
    }

    /// Authenticates all clients at the same time, and again until the period is over. Returns their number.
    pub(super) fn at_once(&self, period: Duration) -> usize {
        let (began, mut count) = (now(), 0);
        while began.elapsed() < period {
            let mut clients: Vec<TcpStream> = (0..self.clients).map(|_| self.begin()).collect();
            clients.iter_mut().for_each(handshake::complete);
            count += clients.len();
        }
        count
    }

    /// Authenticates the clients one after the other, all of them in each second of the period. Returns their number.
    pub(super) fn per_second(&self, period: Duration) -> usize {
        let (began, mut count) = (now(), 0);
        let interval = Duration::from_secs(1) / self.clients as u32;
        let mut clients = VecDeque::new();
        while began.elapsed() < period {
            let due = began + interval * count as u32;
            sleep_until(due);
            clients.push_back((due, self.begin()));
            count += 1;
            // The first ones are authenticated by now, or soon.
            while clients
                .front()
                .is_some_and(|(begun, _)| begun.elapsed() > 2 * DURATION)
            {
                let (_, mut client) = clients.pop_front().expect("there is a first client");
                handshake::complete(&mut client);
            }
        }
        for (_, client) in &mut clients {
            handshake::complete(client);
        }
        count
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the clients come at a given rate"
)]
fn sleep_until(due: Instant) {
    thread::sleep(due.saturating_duration_since(now()));
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads a clock")]
fn now() -> Instant {
    Instant::now()
}
