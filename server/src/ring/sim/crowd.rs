//! A simulated kernel with very many clients, of whom each takes a few bytes.
//!
//! [`SimRing`](super::SimRing) is there to find faults: its network is rude, its clients are played
//! by a test, and it remembers everything. [`CrowdRing`] is there to be large. Its clients are part
//! of it and all behave alike: they send a request, answer pings and Close, and say what they are
//! told to, all of them at once. Sockets always have room; nothing falls short or comes late. What
//! the server sends is checked byte for byte, and counted.
//!
//! Time does not pass by itself, so that several rings can be on one clock: [`CrowdRing::set_now`].
//! An [`enter`](Ring::enter) never waits. The kernel works only there: what is called within a
//! turn of the shard does no more than put an operation or a completion into a list, or take it
//! out, which is what an io_uring does in user space.
//!
//! The network carries no more at a time than there are receive buffers, and the kernel tells no
//! more at a time than a completion queue holds.

mod client;

use std::{collections::VecDeque, io, net::IpAddr, ops::RangeInclusive};

use bytes::BytesMut;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tidewheel_codec::Time;

pub use self::client::Word;
use self::client::{Client, Script, Stage};
use super::super::{
    BufferMemory, Completion, Op, OpCode, Outbound, Ring, SendMode, Socket, Taken, Token, Wait,
    Waker,
};

/// What the kernel tells at a time: as much as the queue of [`Setup::default`](super::super::Setup)
/// holds. More does not arrive before that is reaped.
const COMPLETIONS_MAX: usize = 8192;

/// What a crowd is made of.
#[derive(Clone, Debug)]
pub struct Population {
    /// Decides the clients' handshake nonce and masking keys.
    pub seed: u64,
    /// Direct descriptors.
    pub sockets: u32,
    /// Receive buffers.
    pub buffers: u16,
    /// Bytes in each.
    pub buffer_size: u32,
    /// Bytes of the binary message that each client sends as its own; at least 8.
    pub message_size: usize,
    /// The text that comes when somebody has published.
    pub published: String,
}

/// What the clients of a ring have seen.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Opening handshakes that were answered as they should be.
    pub opened: u64,
    /// Pings, each answered.
    pub pings: u64,
    /// Binary messages that came back as they were sent.
    pub echoes: u64,
    /// Published messages.
    pub published: u64,
    /// Close frames, each answered, or an answer.
    pub closes: u64,
    /// Connections that ended with Close both ways and FIN both ways.
    pub ended_in_order: u64,
    /// Connections of silent clients that the server has reset.
    pub reset_in_silence: u64,
    /// For how long those had been silent, in milliseconds: the shortest and the longest.
    pub silent_ms: Option<RangeInclusive<u64>>,
    /// Sends to silent clients, which nobody has read.
    pub lost: u64,
}

impl Tally {
    /// Adds what the clients of another ring have seen.
    pub fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.pings += other.pings;
        self.echoes += other.echoes;
        self.published += other.published;
        self.closes += other.closes;
        self.ended_in_order += other.ended_in_order;
        self.reset_in_silence += other.reset_in_silence;
        self.lost += other.lost;
        if let Some(range) = &other.silent_ms {
            self.was_silent(*range.start(), *range.end());
        }
    }

    fn was_silent(&mut self, shortest_ms: u64, longest_ms: u64) {
        let (least, most) = match &self.silent_ms {
            Some(range) => (*range.start(), *range.end()),
            None => (u64::MAX, 0),
        };
        self.silent_ms = Some(least.min(shortest_ms)..=most.max(longest_ms));
    }
}

/// A ring whose sockets lead to a crowd.
#[derive(Debug)]
pub struct CrowdRing {
    waker: Waker,
    now: Time,
    script: Script,
    clients: Vec<Client>,
    /// Places of clients that are gone.
    vacant: Vec<u32>,
    /// Clients that are yet to be accepted.
    backlog: u32,
    /// Accepts that are armed, and whether they are multishot.
    accepts: VecDeque<(Token, bool)>,
    listening: Option<Token>,
    submitted: Vec<(Op, Token)>,
    ready: VecDeque<Completion>,
    memory: BufferMemory,
    provided: Vec<u16>,
    /// Clients that have something to say, in order.
    speakers: VecDeque<u32>,
    tally: Tally,
}

impl CrowdRing {
    /// A ring without clients. All memory that it will ever need for them is touched here.
    ///
    /// # Errors
    /// If there is no memory for buffers, or no eventfd.
    ///
    /// # Panics
    /// If a message has no room for its client's number, or does not fit a receive buffer.
    pub fn new(population: Population) -> io::Result<Self> {
        let Population {
            sockets,
            buffers,
            buffer_size,
            ..
        } = population;
        let places = sockets as usize;
        let mut speakers = VecDeque::from(vec![u32::MAX; places]);
        speakers.clear();
        Ok(Self {
            waker: Waker::new()?,
            now: Time::from_millis(0),
            script: Script::new(population),
            clients: vec![Client::ABSENT; places],
            vacant: (0..sockets).rev().collect(),
            backlog: 0,
            accepts: VecDeque::new(),
            listening: None,
            submitted: Vec::new(),
            ready: VecDeque::new(),
            memory: BufferMemory::new(buffers, buffer_size)?,
            provided: Vec::with_capacity(usize::from(buffers)),
            speakers,
            tally: Tally::default(),
        })
    }

    /// It is `now`.
    pub fn set_now(&mut self, now: Time) {
        self.now = now;
    }

    /// So many clients more connect.
    pub fn connect(&mut self, clients: u32) {
        self.backlog += clients;
    }

    /// Every client that is open says a word, neighbours far from each other: no cache has been
    /// warmed for one by the one before.
    ///
    /// # Panics
    /// If one of them has yet to say another.
    pub fn say(&mut self, word: Word) {
        let places = self.clients.len();
        let mut index = 0;
        let stride = stride(places);
        for _ in 0..places {
            if self.clients[index].stage == Stage::Open {
                self.tell(index, word);
            }
            index = (index + stride) % places;
        }
    }

    /// The first client that is open says a word; says whether there is one.
    pub fn say_one(&mut self, word: Word) -> bool {
        let first = self
            .clients
            .iter()
            .position(|client| client.stage == Stage::Open);
        first.inspect(|index| self.tell(*index, word)).is_some()
    }

    /// The network of all clients is cut: nothing passes any more, and nobody is told.
    pub fn vanish(&mut self) {
        for client in &mut self.clients {
            if client.stage != Stage::Absent {
                client.stage = Stage::Silent;
            }
        }
    }

    /// Whether a turn would find something: a completion, or a waker that was rung.
    pub fn is_ready(&mut self) -> bool {
        self.listen();
        !self.ready.is_empty()
    }

    /// What the clients have seen.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Direct descriptors in use.
    #[must_use]
    pub fn open_sockets(&self) -> usize {
        self.clients.len() - self.vacant.len()
    }

    fn tell(&mut self, index: usize, word: Word) {
        self.clients[index].say(word);
        self.list(index as u32);
    }

    fn complete(&mut self, op: OpCode, token: Token, result: i32) {
        self.ready.push_back(Completion {
            op,
            token,
            result,
            more: false,
            buffer: None,
        });
    }

    fn perform(&mut self, op: Op, token: Token) {
        let code = op.code();
        match op {
            Op::Accept { multishot, .. } => self.accepts.push_back((token, multishot)),
            Op::Receive { socket, multishot } => {
                assert!(multishot, "no message is large");
                let client = self.client(socket);
                assert!(client.receive.is_none(), "a second receive on {socket:?}");
                client.receive = Some(token);
                self.list(socket.0);
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
                    SendMode::Told => self.complete(code, token, data.len() as i32),
                }
                if finish {
                    self.finish(socket, token);
                }
            }
            Op::QueryTcpInfo { socket } => {
                let now = self.now;
                let quiet = now.since(self.client(socket).heard);
                self.complete(code, token, quiet.as_millis() as i32);
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
                assert!(kind == OpCode::Accept, "no socket is ever full");
                if let Some(at) = self.accepts.iter().position(|(token, _)| *token == target) {
                    self.accepts.remove(at);
                    self.complete(kind, target, -libc::ECANCELED);
                }
            }
            Op::Close { socket, .. } => {
                self.close(socket);
                self.complete(code, token, 0);
            }
            Op::SendAll { .. } => panic!("a shard waits for no socket"),
            Op::PollWakeup => self.listening = Some(token),
            Op::Wake { waker } => waker.wake(),
            Op::Writable { socket } => panic!("{socket:?} has room for everything"),
            Op::Fill { socket, .. } => panic!("no message of {socket:?} is large"),
            Op::HandOver { .. } => panic!("no shard is ever full"),
            Op::Connect { .. } => panic!("a server connects to nobody"),
        }
    }

    fn client(&mut self, socket: Socket) -> &mut Client {
        let client = &mut self.clients[socket.0 as usize];
        assert!(client.stage != Stage::Absent, "{socket:?} is not open");
        client
    }

    /// Lets a client read what the server sends to it, and answer.
    fn send(&mut self, socket: Socket, data: &Outbound) {
        // SAFETY: the send is over only when this has returned.
        let bytes = unsafe { data.copy() };
        let client = &mut self.clients[socket.0 as usize];
        client.read(&bytes, socket.0, &mut self.script, &mut self.tally);
        self.list(socket.0);
    }

    /// The server's FIN reaches a client.
    fn finish(&mut self, socket: Socket, token: Token) {
        self.client(socket).finish();
        self.list(socket.0);
        self.complete(OpCode::ShutdownWrite, token, 0);
    }

    /// Puts a client on the list of those that have something to say, if it has and is not.
    fn list(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        if client.has_to_say() && !std::mem::replace(&mut client.is_speaker, true) {
            self.speakers.push_back(index);
        }
    }

    fn close(&mut self, socket: Socket) {
        let now = self.now;
        let client = self.client(socket);
        assert!(
            client.receive.is_none(),
            "{socket:?} is closed over an armed receive: it leaks"
        );
        let gone = std::mem::replace(client, Client::ABSENT);
        // It may still be on the list of speakers.
        client.is_speaker = gone.is_speaker;
        match gone.stage {
            Stage::Finished => self.tally.ended_in_order += 1,
            Stage::Silent => {
                let silent_ms = now.since(gone.heard).as_millis() as u64;
                self.tally.reset_in_silence += 1;
                self.tally.was_silent(silent_ms, silent_ms);
            }
            stage => panic!("{socket:?} is closed, and its client is {stage:?}"),
        }
        self.vacant.push(socket.0);
    }

    /// Accepts whoever waits, as far as the shard has asked for it.
    fn accept(&mut self) {
        while self.backlog > 0
            && self.ready.len() < COMPLETIONS_MAX
            && let Some((token, multishot)) = self.accepts.pop_front()
        {
            let index = self.vacant.pop().expect("a shard accepts none too many");
            let client = &mut self.clients[index as usize];
            let is_speaker = client.is_speaker;
            *client = Client::connected(self.now);
            client.is_speaker = is_speaker;
            self.list(index);
            self.backlog -= 1;
            if multishot {
                self.accepts.push_front((token, multishot));
            }
            self.ready.push_back(Completion {
                op: OpCode::Accept,
                token,
                result: index as i32,
                more: multishot,
                buffer: None,
            });
        }
    }

    /// Carries what clients say, as far as there is room for it.
    fn carry(&mut self) {
        while self.ready.len() < COMPLETIONS_MAX
            && let Some(&index) = self.speakers.front()
        {
            let client = &mut self.clients[index as usize];
            // One whose receive is not armed comes again when it is.
            if let Some(token) = client.receive {
                if client.has_words() {
                    let Some(id) = self.provided.pop() else {
                        return;
                    };
                    client.heard = self.now;
                    let bytes = client.speak(index, &mut self.script);
                    let mut buffer = self.memory.take(id, bytes.len() as u32);
                    buffer.copy_from_slice(bytes);
                    self.ready.push_back(Completion {
                        op: OpCode::Receive,
                        token,
                        result: bytes.len() as i32,
                        more: true,
                        buffer: Some(buffer),
                    });
                }
                if client.take_fin() {
                    client.receive = None;
                    self.ready.push_back(Completion {
                        op: OpCode::Receive,
                        token,
                        result: 0,
                        more: false,
                        buffer: None,
                    });
                }
            }
            self.clients[index as usize].is_speaker = false;
            self.speakers.pop_front();
        }
    }

    /// Completes what waits for the waker, if that was rung.
    fn listen(&mut self) {
        let Some(token) = self.listening else { return };
        let mut fds = [PollFd::from_borrowed_fd(self.waker.event(), PollFlags::IN)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // An interrupted poll is as good as none: there will be another.
        if poll(&mut fds, Some(&at_once)).is_ok_and(|rung| rung > 0) {
            self.listening = None;
            self.complete(OpCode::PollWakeup, token, 0);
        }
    }
}

// SAFETY: what is lent is read in the `enter` that follows. Buffers have one owner, as everywhere.
unsafe impl Ring for CrowdRing {
    fn push(&mut self, op: Op, token: Token) {
        self.submitted.push((op, token));
    }

    fn enter(&mut self, _: Wait) -> io::Result<()> {
        while let Some(lent) = self.memory.lend_long() {
            self.provided.push(lent.id);
        }
        let mut submitted = std::mem::take(&mut self.submitted);
        for (op, token) in submitted.drain(..) {
            self.perform(op, token);
        }
        self.submitted = submitted;
        self.accept();
        self.carry();
        self.listen();
        Ok(())
    }

    fn reap(&mut self) -> Option<Completion> {
        self.ready.pop_front()
    }

    fn take_filled(&mut self, _: Token) -> BytesMut {
        panic!("no message is large")
    }

    fn buffers_free(&self) -> usize {
        self.memory.free()
    }

    /// Who was yet to be accepted is refused, and is nobody's.
    fn stop_listening(&mut self) {
        self.backlog = 0;
    }

    fn peer(&self, _: Token) -> Option<IpAddr> {
        None
    }

    /// All clients take everything at once, and pings are answered: whoever is silent has gone.
    fn taken(&self, _: Token) -> Option<Taken> {
        None
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

/// A step that leads to each of `places` once, and to none near those before it: the golden section
/// of their number, or the next number that has no divisor in common with it.
fn stride(places: usize) -> usize {
    let golden = (places as f64 * 0.618_034) as usize;
    let divisor = |mut a: usize, mut b: usize| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let mut strides = golden.max(1)..;
    let coprime = strides.find(|stride| divisor(places, *stride) == 1);
    coprime.expect("the next prime is one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stride_leads_everywhere_once() {
        for places in [1, 2, 3, 10, 1000, 1024, 4096] {
            let mut seen = vec![false; places];
            let mut at = 0;
            for _ in 0..places {
                assert!(!std::mem::replace(&mut seen[at], true), "{at} of {places}");
                at = (at + stride(places)) % places;
            }
        }
    }
}
