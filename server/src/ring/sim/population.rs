//! A simulated kernel with millions of clients, each of which takes few bytes of memory.
//!
//! [`SimRing`](super::SimRing) finds faults: it injects them, a test controls each client, and a trace
//! records every event. [`PopulationRing`] is for size. Its clients are part of it and all behave alike:
//! they send a request, answer Ping and Close, and send a message on demand. Sockets always have room,
//! and completions are never late. The clients check every byte from the server, and count.
//!
//! Time is set by [`PopulationRing::set_now`], so that several rings can share a clock. An
//! [`enter`](Ring::enter) never waits. Calls during a turn of the shard only append to a list or take
//! from one, as io_uring does in user space; the simulation's work takes place in `enter`.
//!
//! The network carries at most as many messages at a time as there are receive buffers, and the kernel
//! reports at most 8192 completions.

mod client;
mod counts;
mod script;

use std::{collections::VecDeque, io, net::SocketAddr};

use bytes::BytesMut;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tidewheel_codec::Time;

use self::client::{Client, Stage};
pub use self::{
    counts::ClientCounts,
    script::{ClientMessage, Population},
};
use super::super::{
    AckProgress, BufferMemory, Completion, Op, OpCode, Outbound, Ring, SendMode, Socket, Token,
    Wait, Waker,
};
use script::Script;

/// Maximum number of unreaped completions: the completion queue of
/// [`Setup::default`](super::super::Setup). Later events wait until they are reaped.
const COMPLETIONS_MAX: usize = 8192;

/// A ring whose sockets are connected to a population of clients.
#[derive(Debug)]
pub struct PopulationRing {
    waker: Waker,
    now: Time,
    script: Script,
    clients: Vec<Client>,
    /// Indices of `clients` that are free.
    vacant: Vec<u32>,
    /// Number of clients that were not accepted yet.
    backlog: u32,
    /// Armed accepts.
    accepts: VecDeque<Token>,
    /// The armed [`Op::PollWakeup`].
    wakeup_poll: Option<Token>,
    submissions: Vec<(Op, Token)>,
    completions: VecDeque<Completion>,
    memory: BufferMemory,
    /// Ids of the receive buffers that the kernel owns.
    provided: Vec<u16>,
    /// Clients that have something to send, in order.
    senders: VecDeque<u32>,
    counts: ClientCounts,
}

impl PopulationRing {
    /// Creates a ring without clients. All memory for clients is allocated and touched here.
    ///
    /// # Errors
    /// If there is no memory for buffers, or no eventfd.
    ///
    /// # Panics
    /// If [`Population::message_size`] is below 8, or not below half of the size of a receive buffer.
    pub fn new(population: Population) -> io::Result<Self> {
        let Population {
            sockets,
            buffers,
            buffer_size,
            ..
        } = population;
        let sockets_max = sockets as usize;
        let mut senders = VecDeque::from(vec![u32::MAX; sockets_max]);
        senders.clear();
        Ok(Self {
            waker: Waker::new()?,
            now: Time::from_millis(0),
            script: Script::new(population),
            clients: vec![Client::ABSENT; sockets_max],
            vacant: (0..sockets).rev().collect(),
            backlog: 0,
            accepts: VecDeque::new(),
            wakeup_poll: None,
            submissions: Vec::new(),
            completions: VecDeque::new(),
            memory: BufferMemory::new(buffers, buffer_size)?,
            provided: Vec::with_capacity(usize::from(buffers)),
            senders,
            counts: ClientCounts::default(),
        })
    }

    /// Sets the virtual time.
    pub fn set_now(&mut self, now: Time) {
        self.now = now;
    }

    /// Connects `clients` more clients.
    pub fn connect(&mut self, clients: u32) {
        self.backlog += clients;
    }

    /// Makes every open client send `message`. Successive clients are far apart in memory, so that none
    /// finds its data in the cache.
    ///
    /// # Panics
    /// If a client has not sent its previous message yet.
    pub fn send_from_all(&mut self, message: ClientMessage) {
        let count = self.clients.len();
        let stride = stride(count);
        let mut index = 0;
        for _ in 0..count {
            if self.clients[index].stage == Stage::Open {
                self.send_from(index, message);
            }
            index = (index + stride) % count;
        }
    }

    /// Makes the first open client send `message`; returns whether there is one.
    ///
    /// # Panics
    /// If the client has not sent its previous message yet.
    pub fn send_from_one(&mut self, message: ClientMessage) -> bool {
        let is_open = |client: &Client| client.stage == Stage::Open;
        let first = self.clients.iter().position(is_open);
        first
            .inspect(|index| self.send_from(*index, message))
            .is_some()
    }

    /// Cuts the network of all clients: all later bytes are dropped, without FIN or RST.
    pub fn vanish(&mut self) {
        for client in &mut self.clients {
            if client.stage != Stage::Absent {
                client.stage = Stage::Vanished;
            }
        }
    }

    /// Whether a completion can be reaped.
    pub fn is_ready(&mut self) -> bool {
        self.poll_waker();
        !self.completions.is_empty()
    }

    /// Returns the numbers of events that the clients have received so far.
    #[must_use]
    pub fn counts(&self) -> &ClientCounts {
        &self.counts
    }

    /// The number of direct descriptors in use.
    #[must_use]
    pub fn open_sockets(&self) -> usize {
        self.clients.len() - self.vacant.len()
    }

    fn send_from(&mut self, index: usize, message: ClientMessage) {
        self.clients[index].set_message(message);
        self.list_sender(index as u32);
    }

    fn complete(&mut self, op: OpCode, token: Token, result: i32) {
        self.completions
            .push_back(Completion::last(op, token, result));
    }

    fn perform(&mut self, op: Op, token: Token) {
        let code = op.code();
        match op {
            Op::Accept => self.accepts.push_back(token),
            Op::Receive { socket, multishot } => {
                assert!(multishot, "messages are shorter than a receive buffer");
                let client = self.client(socket);
                assert!(client.receive.is_none(), "a second receive on {socket:?}");
                client.receive = Some(token);
                self.list_sender(socket.0);
            }
            Op::Send {
                socket,
                data,
                mode,
                finish,
            } => {
                self.send(socket, &data);
                match mode {
                    SendMode::Silent => {}
                    SendMode::Reported => self.complete(code, token, data.len() as i32),
                }
                if finish {
                    self.finish(socket, token);
                }
            }
            Op::QueryTcpInfo { socket } => {
                let now = self.now;
                let silence = now.since(self.client(socket).heard);
                self.complete(code, token, silence.as_millis() as i32);
            }
            Op::QueryUnacked { .. } => self.complete(code, token, 0),
            Op::QueryError { .. } => self.complete(code, token, i32::from(libc::POLLHUP)),
            Op::ShutdownWrite { socket } => self.finish(socket, token),
            Op::Reset { socket } => {
                let receive = self.client(socket).receive.take();
                if let Some(receive) = receive {
                    self.complete(OpCode::Receive, receive, -libc::ECONNRESET);
                }
            }
            Op::Cancel { kind, target } => {
                assert!(kind == OpCode::Accept, "only accepts are cancelled");
                if let Some(at) = self.accepts.iter().position(|token| *token == target) {
                    self.accepts.remove(at);
                    self.complete(kind, target, -libc::ECANCELED);
                }
            }
            Op::Close { socket, .. } => {
                self.close(socket);
                self.complete(code, token, 0);
            }
            Op::SendAll { .. } => panic!("a shard does not use SendAll"),
            Op::PollWakeup => self.wakeup_poll = Some(token),
            Op::Wake { waker } => waker.wake(),
            Op::Writable { socket } => panic!("{socket:?} always has room"),
            Op::Fill { socket, .. } => panic!("the messages of {socket:?} fit a receive buffer"),
            Op::HandOver { .. } => panic!("a shard has room for all of its clients"),
            Op::Connect { .. } => panic!("a shard does not use Connect"),
        }
    }

    fn client(&mut self, socket: Socket) -> &mut Client {
        let client = &mut self.clients[socket.0 as usize];
        assert!(client.stage != Stage::Absent, "{socket:?} is not open");
        client
    }

    /// Lets a client read bytes of the server, and answer.
    fn send(&mut self, socket: Socket, data: &Outbound) {
        // SAFETY: the send ends only when this function has returned.
        let bytes = unsafe { data.copy() };
        let client = &mut self.clients[socket.0 as usize];
        client.read(&bytes, socket.0, &mut self.script, &mut self.counts);
        self.list_sender(socket.0);
    }

    /// Lets the server's FIN reach a client.
    fn finish(&mut self, socket: Socket, token: Token) {
        self.client(socket).finish();
        self.list_sender(socket.0);
        self.complete(OpCode::ShutdownWrite, token, 0);
    }

    /// Adds a client to the list of senders, if it has something to send and is not on the list.
    fn list_sender(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        if client.has_output() && !std::mem::replace(&mut client.is_listed, true) {
            self.senders.push_back(index);
        }
    }

    fn close(&mut self, socket: Socket) {
        let now = self.now;
        let client = self.client(socket);
        assert!(
            client.receive.is_none(),
            "{socket:?} is closed with an armed receive: it leaks"
        );
        let closed = std::mem::replace(client, Client::ABSENT);
        // The index may still be on the list of senders.
        client.is_listed = closed.is_listed;
        match closed.stage {
            Stage::Finished => self.counts.ended_in_order += 1,
            Stage::Vanished => {
                let silent_ms = now.since(closed.heard).as_millis() as u64;
                self.counts.reset_in_silence += 1;
                self.counts.add_silence(silent_ms, silent_ms);
            }
            stage => panic!("{socket:?} is closed; its client is {stage:?}"),
        }
        self.vacant.push(socket.0);
    }

    /// Accepts clients, as long as an accept is armed and completions fit.
    fn accept(&mut self) {
        while self.backlog > 0
            && self.completions.len() < COMPLETIONS_MAX
            && let Some(token) = self.accepts.pop_front()
        {
            let index = self.vacant.pop().expect("a descriptor is free");
            let client = &mut self.clients[index as usize];
            let is_listed = client.is_listed;
            *client = Client::connected(self.now);
            client.is_listed = is_listed;
            self.list_sender(index);
            self.backlog -= 1;
            self.complete(OpCode::Accept, token, index as i32);
        }
    }

    /// Completes receives with the output of clients, as long as there are buffers and completions fit.
    fn carry(&mut self) {
        while self.completions.len() < COMPLETIONS_MAX
            && let Some(&index) = self.senders.front()
        {
            let client = &mut self.clients[index as usize];
            // Without an armed receive, the client is listed again when one is armed.
            if let Some(token) = client.receive {
                if client.has_bytes() {
                    let Some(id) = self.provided.pop() else {
                        return;
                    };
                    client.heard = self.now;
                    let bytes = client.take_bytes(index, &mut self.script);
                    let mut buffer = self.memory.take(id, bytes.len() as u32);
                    buffer.copy_from_slice(bytes);
                    self.completions.push_back(Completion {
                        op: OpCode::Receive,
                        token,
                        result: bytes.len() as i32,
                        more: true,
                        buffer: Some(buffer),
                    });
                }
                if client.take_fin() {
                    client.receive = None;
                    self.complete(OpCode::Receive, token, 0);
                }
            }
            self.clients[index as usize].is_listed = false;
            self.senders.pop_front();
        }
    }

    /// Completes an armed [`Op::PollWakeup`] if the waker was called.
    fn poll_waker(&mut self) {
        let Some(token) = self.wakeup_poll else {
            return;
        };
        let mut fds = [PollFd::from_borrowed_fd(self.waker.event(), PollFlags::IN)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // After an error (EINTR) the next call polls again.
        if poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0) {
            self.wakeup_poll = None;
            self.complete(OpCode::PollWakeup, token, 0);
        }
    }
}

// SAFETY: lent bytes are read in the `enter` that follows the push, and not later. Buffers have one owner
// (`BufferMemory`).
unsafe impl Ring for PopulationRing {
    fn push(&mut self, op: Op, token: Token) {
        self.submissions.push((op, token));
    }

    fn enter(&mut self, _: Wait) -> io::Result<()> {
        while let Some(lent) = self.memory.lend_full_size() {
            self.provided.push(lent.id);
        }
        let mut submissions = std::mem::take(&mut self.submissions);
        for (op, token) in submissions.drain(..) {
            self.perform(op, token);
        }
        self.submissions = submissions;
        self.accept();
        self.carry();
        self.poll_waker();
        Ok(())
    }

    fn reap(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    fn take_filled(&mut self, _: Token) -> BytesMut {
        panic!("messages fit a receive buffer")
    }

    fn buffers_free(&self) -> usize {
        self.memory.free()
    }

    /// Refuses all clients that were not accepted yet. They are not counted.
    fn stop_listening(&mut self) {
        self.backlog = 0;
    }

    /// Not simulated: all clients have the same address.
    fn peer(&self, _: Token) -> Option<SocketAddr> {
        None
    }

    /// Not simulated: clients acknowledge at once, so a silent client has vanished.
    fn ack_progress(&self, _: Token) -> Option<AckProgress> {
        None
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

/// A step that visits each of `count` indices once, with neighbours far apart: the golden section of
/// `count`, or the next number that is coprime to it.
fn stride(count: usize) -> usize {
    let golden = (count as f64 * 0.618_034) as usize;
    let divisor = |mut a: usize, mut b: usize| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let mut strides = golden.max(1)..;
    let coprime = strides.find(|stride| divisor(count, *stride) == 1);
    coprime.expect("a larger prime is coprime")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stride_visits_every_index_once() {
        for count in [1, 2, 3, 10, 1000, 1024, 4096] {
            let mut seen = vec![false; count];
            let mut at = 0;
            for _ in 0..count {
                assert!(!std::mem::replace(&mut seen[at], true), "{at} of {count}");
                at = (at + stride(count)) % count;
            }
        }
    }
}
