//! The clients of a fan-out: one publishes, and all are subscribers.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    mem::MaybeUninit,
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
    net::sockopt::set_socket_linger,
};

use super::message::{self, FRAME_SIZE};
use crate::handshake;

/// Events that one epoll_wait(2) returns at most.
const EVENTS_MAX: usize = 512;

/// Time without a delivery after which a message counts as lost.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Time without a delivery after which the server counts as asleep.
const QUIET_TIME: Duration = Duration::from_millis(30);

/// All clients of a server. The first one publishes.
pub(super) struct Clients {
    epoll: OwnedFd,
    clients: Vec<Client>,
    /// Messages published so far.
    published: u64,
    /// Deliveries that are missing, for each message that is not delivered to all; oldest message first.
    missing: VecDeque<usize>,
    buffer: Vec<u8>,
}

struct Client {
    socket: TcpStream,
    /// Bytes of frames.
    received: u64,
}

/// Times from the planned moment of a publish to deliveries.
pub(super) struct Latency {
    /// Median of all deliveries.
    pub(super) each_p50: Duration,
    pub(super) each_p99: Duration,
    /// Median of the last delivery of each message.
    pub(super) last_p50: Duration,
    /// Longest of all deliveries.
    pub(super) worst: Duration,
}

impl Clients {
    /// Connects `count` clients, publishes one message, and checks all bytes of its deliveries.
    pub(super) fn connect(address: SocketAddr, count: usize) -> Self {
        let epoll = epoll::create(CreateFlags::CLOEXEC).expect("a descriptor is left");
        let clients: Vec<Client> = (0..count).map(|_| Client::connect(address)).collect();
        for (number, client) in (0..).zip(&clients) {
            let data = EventData::new_u64(number);
            epoll::add(
                &epoll,
                &client.socket,
                data,
                EventFlags::IN | EventFlags::ET,
            )
            .expect("each socket is added once");
        }
        let mut clients = Self {
            epoll,
            clients,
            published: 0,
            missing: VecDeque::new(),
            buffer: vec![0; 64 << 10],
        };
        clients.check_first_message();
        clients
    }

    /// Returns the number of clients.
    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    fn check_first_message(&mut self) {
        let number = self.published;
        self.publish(1);
        self.missing.clear();
        let expected = message::delivered(number);
        for client in &mut self.clients {
            let mut frame = [0; FRAME_SIZE];
            let timeout = client.socket.set_read_timeout(Some(DELIVERY_TIMEOUT));
            timeout.expect("the timeout is not zero");
            client
                .socket
                .read_exact(&mut frame)
                .expect("the message is delivered");
            assert_eq!(frame, expected, "the delivered frame is the published one");
            client.received += FRAME_SIZE as u64;
            client
                .socket
                .set_nonblocking(true)
                .expect("the socket is open");
        }
    }

    /// Publishes `count` messages with `in_flight` of them not delivered to all at most. Returns the time until all
    /// are delivered.
    pub(super) fn publish_in_flight(&mut self, count: u64, in_flight: usize) -> Duration {
        let (start, end) = (now(), self.published + count);
        while self.published < end || !self.missing.is_empty() {
            let room = (in_flight - self.missing.len()) as u64;
            self.publish(room.min(end - self.published));
            let has_events = self.receive(DELIVERY_TIMEOUT, |_| ());
            assert!(has_events, "missing deliveries: {:?}", self.missing);
        }
        start.elapsed()
    }

    /// Publishes `count` messages, one in each `interval`, without waiting for deliveries.
    pub(super) fn publish_paced(&mut self, count: u64, interval: Duration) -> Latency {
        let (start, first) = (now(), self.published);
        let due = |number: u64| start + interval * (number - first) as u32;
        let mut each = Vec::with_capacity(count as usize * self.len());
        let mut last = vec![Duration::ZERO; count as usize];
        while self.published < first + count || !self.missing.is_empty() {
            let mut limit = DELIVERY_TIMEOUT;
            if self.published < first + count {
                limit = due(self.published).saturating_duration_since(now());
                if limit.is_zero() {
                    self.publish(1);
                    continue;
                }
            }
            let has_events = self.receive(limit, |number| {
                let latency = now().saturating_duration_since(due(number));
                each.push(latency);
                let last = &mut last[(number - first) as usize];
                *last = latency.max(*last);
            });
            assert!(
                has_events || limit < DELIVERY_TIMEOUT,
                "missing deliveries: {:?}",
                self.missing
            );
        }
        each.sort_unstable();
        last.sort_unstable();
        Latency {
            each_p50: each[each.len() / 2],
            each_p99: each[each.len() * 99 / 100],
            last_p50: last[last.len() / 2],
            worst: last[last.len() - 1],
        }
    }

    /// Waits until the server sleeps, and checks that each client has received as many bytes as were published.
    pub(super) fn wait_until_idle(&mut self) {
        while self.receive(QUIET_TIME, |_| ()) {}
        let expected = self.published * FRAME_SIZE as u64;
        for client in &self.clients {
            assert_eq!(
                client.received, expected,
                "bytes of {} messages",
                self.published
            );
        }
    }

    /// Resets all connections, so that none of their ports stays in TIME_WAIT.
    pub(super) fn reset_all(self) {
        for client in &self.clients {
            set_socket_linger(&client.socket, Some(Duration::ZERO)).expect("the socket is open");
        }
    }

    fn publish(&mut self, count: u64) {
        if count == 0 {
            return;
        }
        let mut frames = Vec::new();
        for _ in 0..count {
            message::write_masked(self.published, &mut frames);
            self.published += 1;
            self.missing.push_back(self.clients.len());
        }
        let written = self.clients[0]
            .socket
            .write(&frames)
            .expect("the socket is open");
        assert_eq!(written, frames.len(), "the send buffer has room");
    }

    /// Waits for deliveries, for `limit` at most, and calls `delivered` with the number of each message.
    ///
    /// Returns whether epoll reported a socket, even if its bytes were read before.
    fn receive(&mut self, limit: Duration, mut delivered: impl FnMut(u64)) -> bool {
        let limit = whole_millis(limit);
        let mut events = [MaybeUninit::uninit(); EVENTS_MAX];
        let events = match epoll::wait(&self.epoll, &mut events, Some(&limit)) {
            Ok((events, _)) => events,
            Err(error) => panic!("epoll_wait(2): {error}"),
        };
        let oldest = self.published - self.missing.len() as u64;
        let has_events = !events.is_empty();
        for event in events {
            let client = &mut self.clients[event.data.u64() as usize];
            for number in client.read(&mut self.buffer) {
                let missing = number.checked_sub(oldest);
                let missing = missing.expect("older messages are delivered to all");
                let missing = self.missing.get_mut(missing as usize);
                *missing.expect("the message was published") -= 1;
                delivered(number);
            }
        }
        while self.missing.front() == Some(&0) {
            self.missing.pop_front();
        }
        has_events
    }
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        Self {
            socket: handshake::open(address, "/ticker", None),
            received: 0,
        }
    }

    /// Reads all bytes that have arrived. Returns the numbers of the messages that they complete.
    fn read(&mut self, buffer: &mut [u8]) -> std::ops::Range<u64> {
        let frames_before = self.received / FRAME_SIZE as u64;
        loop {
            match self.socket.read(buffer) {
                Ok(0) => panic!("the server closed a connection"),
                Ok(length) => {
                    self.received += length as u64;
                    if length < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("the server reset a connection: {error}"),
            }
        }
        frames_before..self.received / FRAME_SIZE as u64
    }
}

/// Rounds down to milliseconds, so that a wait never ends late.
fn whole_millis(limit: Duration) -> Timespec {
    let limit = Duration::from_millis(limit.as_millis() as u64);
    Timespec::try_from(limit).expect("the limit is some seconds")
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads a clock")]
fn now() -> Instant {
    Instant::now()
}
