//! The clients: a publisher, who is a subscriber as well, and all others.

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
use crate::client;

/// Sockets that one wait tells of at most.
const EVENTS_MAX: usize = 512;

/// A server that delivers nothing for so long has lost a message.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// After so much silence a server is asleep.
const REST: Duration = Duration::from_millis(30);

/// All clients of a server; the first one publishes.
pub(super) struct Audience {
    epoll: OwnedFd,
    members: Vec<Member>,
    /// Messages published so far.
    published: u64,
    /// For each message that not all have got, oldest first: how many have not.
    missing: VecDeque<usize>,
    buffer: Vec<u8>,
}

struct Member {
    socket: TcpStream,
    /// Bytes of frames.
    received: u64,
}

/// From the planned moment of a publish to the receipt.
pub(super) struct Latency {
    pub(super) each_p50: Duration,
    pub(super) each_p99: Duration,
    pub(super) last_p50: Duration,
    pub(super) worst: Duration,
}

impl Audience {
    pub(super) fn connect(address: SocketAddr, count: usize) -> Self {
        let epoll = epoll::create(CreateFlags::CLOEXEC).expect("a descriptor is left");
        let members: Vec<Member> = (0..count).map(|_| Member::connect(address)).collect();
        for (number, member) in (0..).zip(&members) {
            let data = EventData::new_u64(number);
            epoll::add(
                &epoll,
                &member.socket,
                data,
                EventFlags::IN | EventFlags::ET,
            )
            .expect("it is added once");
        }
        let mut audience = Self {
            epoll,
            members,
            published: 0,
            missing: VecDeque::new(),
            buffer: vec![0; 64 << 10],
        };
        audience.verify_first();
        audience
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Publishes a message, and looks at every byte that comes of it.
    fn verify_first(&mut self) {
        let number = self.published;
        self.publish(1);
        self.missing.clear();
        let expected = message::delivered(number);
        for member in &mut self.members {
            let mut frame = [0; FRAME_SIZE];
            let timeout = member.socket.set_read_timeout(Some(SILENCE_MAX));
            timeout.expect("it is not zero");
            member
                .socket
                .read_exact(&mut frame)
                .expect("it is delivered");
            assert_eq!(frame, expected, "what is delivered was not published");
            member.received += FRAME_SIZE as u64;
            member.socket.set_nonblocking(true).expect("it is a socket");
        }
    }

    /// Publishes `count` messages, the next one as soon as all have got the one `in_flight` before;
    /// returns when all have got everything, with the time that it took.
    pub(super) fn stretch(&mut self, count: u64, in_flight: usize) -> Duration {
        let (start, end) = (now(), self.published + count);
        while self.published < end || !self.missing.is_empty() {
            let room = (in_flight - self.missing.len()) as u64;
            self.publish(room.min(end - self.published));
            let heard = self.receive(SILENCE_MAX, |_| ());
            assert!(heard, "{:?} are missing", self.missing);
        }
        start.elapsed()
    }

    /// Publishes `count` messages, one in each `interval`, whatever becomes of them.
    pub(super) fn paced(&mut self, count: u64, interval: Duration) -> Latency {
        let (start, first) = (now(), self.published);
        let due = |number: u64| start + interval * (number - first) as u32;
        let mut each = Vec::with_capacity(count as usize * self.len());
        let mut last = vec![Duration::ZERO; count as usize];
        while self.published < first + count || !self.missing.is_empty() {
            let mut limit = SILENCE_MAX;
            if self.published < first + count {
                limit = due(self.published).saturating_duration_since(now());
                if limit.is_zero() {
                    self.publish(1);
                    continue;
                }
            }
            let heard = self.receive(limit, |number| {
                let latency = now().saturating_duration_since(due(number));
                each.push(latency);
                let last = &mut last[(number - first) as usize];
                *last = latency.max(*last);
            });
            assert!(
                heard || limit < SILENCE_MAX,
                "{:?} are missing",
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

    /// Lets the server fall asleep; nobody gets anything that was not published.
    pub(super) fn rest(&mut self) {
        while self.receive(REST, |_| ()) {}
        let expected = self.published * FRAME_SIZE as u64;
        for member in &self.members {
            assert_eq!(
                member.received, expected,
                "bytes of {} messages",
                self.published
            );
        }
    }

    /// Resets all connections, so that their ports are free at once.
    pub(super) fn leave(self) {
        for member in &self.members {
            set_socket_linger(&member.socket, Some(Duration::ZERO)).expect("it is a socket");
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
            self.missing.push_back(self.members.len());
        }
        let written = self.members[0].socket.write(&frames).expect("it is open");
        assert_eq!(written, frames.len(), "the server reads too slowly");
    }

    /// Waits for deliveries, up to `limit`, and gives the number of each message to `delivered`;
    /// says whether a socket had something to tell, be it that what it had is read already.
    fn receive(&mut self, limit: Duration, mut delivered: impl FnMut(u64)) -> bool {
        let limit = whole_millis(limit);
        let mut events = [MaybeUninit::uninit(); EVENTS_MAX];
        let events = match epoll::wait(&self.epoll, &mut events, Some(&limit)) {
            Ok((events, _)) => events,
            Err(error) => panic!("epoll_wait(2): {error}"),
        };
        let oldest = self.published - self.missing.len() as u64;
        let heard = !events.is_empty();
        for event in events {
            let member = &mut self.members[event.data.u64() as usize];
            for number in member.read(&mut self.buffer) {
                let missing = number.checked_sub(oldest).expect("the oldest is complete");
                let missing = self.missing.get_mut(missing as usize);
                *missing.expect("it was published") -= 1;
                delivered(number);
            }
        }
        while self.missing.front() == Some(&0) {
            self.missing.pop_front();
        }
        heard
    }
}

impl Member {
    fn connect(address: SocketAddr) -> Self {
        Self {
            socket: client::open(address, "/ticker", None),
            received: 0,
        }
    }

    /// Reads what is there; the numbers of the messages that are whole now.
    fn read(&mut self, buffer: &mut [u8]) -> std::ops::Range<u64> {
        let frames_before = self.received / FRAME_SIZE as u64;
        loop {
            match self.socket.read(buffer) {
                Ok(0) => panic!("the server has closed a connection"),
                Ok(length) => {
                    self.received += length as u64;
                    if length < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("the server has cut a connection: {error}"),
            }
        }
        frames_before..self.received / FRAME_SIZE as u64
    }
}

/// For a wait that is never too long.
fn whole_millis(limit: Duration) -> Timespec {
    let limit = Duration::from_millis(limit.as_millis() as u64);
    Timespec::try_from(limit).expect("it is some seconds")
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads a clock")]
fn now() -> Instant {
    Instant::now()
}
