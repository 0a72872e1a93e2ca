//! The application under the shard: it does what messages ask for, and keeps a record.

use std::{
    cell::{Cell, RefCell},
    panic::panic_any,
    rc::Rc,
};

use tidewheel::{
    CloseCode, Conn, ConnectionId, Disconnect, Handler, Message, Rejection, Request, Verdict,
};

/// Bytes that the handler sends and publishes of its own accord in a run.
const OUTPUT_MAX: usize = 1 << 20;

/// Patterns to subscribe to; the last two are not valid.
const PATTERNS: [&str; 8] = ["a", "a/b", "a/*", "kept/x", "kept/>", ">", "a//b", "a/b*"];

/// Topics to publish to; the last two are not valid.
const TOPICS: [&str; 6] = ["a", "a/b", "kept/x", "kept/y", "a/*", ""];

/// First byte of a message to be echoed.
pub(crate) const ECHO: u8 = b'e';

/// First byte of a message to be published.
pub(crate) const PUBLISH: u8 = b'p';

/// First byte of a message to be published to all others.
pub(crate) const PUBLISH_TO_OTHERS: u8 = b'o';

/// Bits of what the handler does for one connection, by its request.
#[derive(Debug)]
pub struct Habit;

impl Habit {
    /// The request is refused.
    pub const REJECTS: u8 = 1;
    /// `upgrade` panics.
    pub const UPGRADE_PANICS: u8 = 2;
    /// `open` panics.
    pub const OPEN_PANICS: u8 = 4;
    /// `close` panics.
    pub const CLOSE_PANICS: u8 = 8;
    /// The destructor of the state panics.
    pub const DROP_PANICS: u8 = 16;
    /// `drained` and `gap` panic.
    pub const DRAINED_PANICS: u8 = 32;
    /// `open` sends a message.
    pub const GREETS: u8 = 64;
    /// `open` subscribes to everything, and `close` does so again.
    pub const SUBSCRIBES: u8 = 128;
}

/// The payload of a panic that the input has asked for.
pub(crate) struct Requested;

/// A connection as the handler saw it.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) id: ConnectionId,
    /// Which client it is, by its request.
    pub(crate) client: Option<usize>,
    pub(crate) opens: usize,
    pub(crate) ends: Vec<Disconnect>,
}

/// Everything that the handler saw.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) visits: RefCell<Vec<Visit>>,
    /// Messages that `gap` told of.
    pub(crate) missed: Cell<u64>,
    /// Panics of callbacks that nobody has asked for.
    pub(crate) unexpected_panics: Cell<usize>,
    /// The panic under way was asked for.
    is_requested: Cell<bool>,
    /// Bytes of output so far.
    output: Cell<usize>,
}

impl Record {
    fn panic(&self) -> ! {
        self.is_requested.set(true);
        panic_any(Requested)
    }

    /// Runs a callback, and counts a panic that nobody has asked for: the shard contains it.
    fn watch<T>(&self, callback: impl FnOnce() -> T) -> T {
        struct Watch<'a>(&'a Record);
        impl Drop for Watch<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() && !self.0.is_requested.replace(false) {
                    self.0
                        .unexpected_panics
                        .set(self.0.unexpected_panics.get() + 1);
                }
            }
        }
        let _watch = Watch(self);
        callback()
    }

    /// Whether so many bytes may be sent beside echoes.
    fn may_send(&self, bytes: usize) -> bool {
        let output = self.output.get() + bytes;
        let is_allowed = output <= OUTPUT_MAX;
        if is_allowed {
            self.output.set(output);
        }
        is_allowed
    }
}

/// The application's state of a connection.
pub(crate) struct State {
    client: Option<usize>,
    habits: u8,
}

impl State {
    fn does(&self, habit: u8) -> bool {
        self.habits & habit != 0
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if self.does(Habit::DROP_PANICS) && !std::thread::panicking() {
            // Nobody watches a destructor, so there is nothing to note.
            panic_any(Requested);
        }
    }
}

/// Does what a message asks for by its first byte, with the second as argument:
///
/// | byte | what |
/// |---|---|
/// | `s`, `u` | subscribes to a pattern, or unsubscribes |
/// | `p`, `o` | publishes the message to a topic up to 16 times, to all or to all others |
/// | `m` | sends the message up to 64 times |
/// | `c` | closes |
/// | `g` | sends a Ping |
/// | `!` | sends the message and panics |
/// | others | echoes |
pub(crate) struct Application {
    pub(crate) record: Rc<Record>,
    /// Bytes that wait for a client at most when one of its messages is read.
    pub(crate) unsent_max: usize,
}

impl Application {
    fn answer(&self, conn: &mut Conn<'_, State>, message: Message<'_>) {
        assert!(conn.unsent() < self.unsent_max, "the queue is bounded");
        assert!(conn.is_open(), "nothing is read once it closes");
        let [letter, argument, ..] = *message.payload() else {
            let _ = conn.send(message);
            return;
        };
        let length = message.len();
        let argument = usize::from(argument);
        match letter {
            b's' => {
                let index = argument % PATTERNS.len();
                let is_new = conn.subscribe(PATTERNS[index]);
                assert_eq!(is_new.is_ok(), index < PATTERNS.len() - 2);
            }
            b'u' => {
                let index = argument % PATTERNS.len();
                let was_there = conn.unsubscribe(PATTERNS[index]);
                assert_eq!(was_there.is_ok(), index < PATTERNS.len() - 2);
            }
            PUBLISH | PUBLISH_TO_OTHERS => {
                let (topic, count) = (
                    TOPICS[argument % TOPICS.len()],
                    argument / TOPICS.len() % 16,
                );
                for _ in 0..=count {
                    if self.record.may_send(length) {
                        publish(conn, letter, topic, &message);
                    }
                }
            }
            b'm' => {
                for _ in 0..=argument % 64 {
                    if self.record.may_send(length) {
                        let _ = match message.as_text() {
                            Some(text) => conn.send(text),
                            None => conn.send(message.payload()),
                        };
                    }
                }
            }
            b'c' => {
                let code = [1000, 4000, 1005, 1011][argument % 4];
                let closed = conn.close(CloseCode(code), "as asked");
                assert_eq!(closed.is_ok(), code != 1005);
            }
            b'g' => {
                let pinged = conn.ping(&message.payload()[..argument.min(length)]);
                assert_eq!(pinged.is_ok(), argument.min(length) <= 125);
            }
            b'!' => {
                let _ = conn.send(message);
                self.record.panic();
            }
            _ => {
                let _ = conn.send(message);
            }
        }
    }
}

fn publish(conn: &mut Conn<'_, State>, letter: u8, topic: &str, message: &Message<'_>) {
    // Busy, or no topic: the fuzzer may try.
    let _ = match (message.as_text(), letter) {
        (Some(text), PUBLISH) => conn.publish(topic, text),
        (Some(text), _) => conn.publish_to_others(topic, text),
        (None, PUBLISH) => conn.publish(topic, message.payload()),
        (None, _) => conn.publish_to_others(topic, message.payload()),
    };
}

/// The path of a client's request.
pub(crate) fn path(client: usize, habits: u8) -> String {
    format!("/{client}/{habits}")
}

fn parse_path(path: &str) -> Option<(usize, u8)> {
    let (client, habits) = path.strip_prefix('/')?.split_once('/')?;
    Some((client.parse().ok()?, habits.parse().ok()?))
}

impl Handler for Application {
    type State = State;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<State> {
        self.record.watch(|| {
            let parsed = parse_path(request.path());
            let habits = parsed.map_or(0, |(_, habits)| habits);
            if habits & Habit::UPGRADE_PANICS != 0 {
                self.record.panic();
            }
            if habits & Habit::REJECTS != 0 {
                return Verdict::reject(Rejection::new(403, "as asked"));
            }
            Verdict::accept(State {
                client: parsed.map(|(client, _)| client),
                habits,
            })
        })
    }

    fn open(&mut self, conn: &mut Conn<'_, State>) {
        self.record.watch(|| {
            let id = conn.id();
            let mut visits = self.record.visits.borrow_mut();
            match visits.iter_mut().find(|visit| visit.id == id) {
                Some(visit) => visit.opens += 1,
                None => visits.push(Visit {
                    id,
                    client: conn.state().client,
                    opens: 1,
                    ends: Vec::new(),
                }),
            }
            drop(visits);
            if conn.state().does(Habit::SUBSCRIBES) {
                assert!(conn.subscribe(">").is_ok());
            }
            if conn.state().does(Habit::GREETS) {
                let _ = conn.send("hello");
            }
            if conn.state().does(Habit::OPEN_PANICS) {
                self.record.panic();
            }
        });
    }

    fn message(&mut self, conn: &mut Conn<'_, State>, message: Message<'_>) {
        self.record.watch(|| self.answer(conn, message));
    }

    fn drained(&mut self, conn: &mut Conn<'_, State>) {
        self.record.watch(|| {
            if conn.state().does(Habit::DRAINED_PANICS) {
                self.record.panic();
            }
        });
    }

    fn gap(&mut self, conn: &mut Conn<'_, State>, missed: u64) {
        self.record.watch(|| {
            assert!(missed > 0, "a gap has messages");
            self.record.missed.set(self.record.missed.get() + missed);
            if conn.state().does(Habit::DRAINED_PANICS) {
                self.record.panic();
            }
        });
    }

    fn close(&mut self, conn: &mut Conn<'_, State>, end: &Disconnect) {
        self.record.watch(|| {
            let id = conn.id();
            let mut visits = self.record.visits.borrow_mut();
            let visit = visits.iter_mut().find(|visit| visit.id == id);
            visit.expect("it was opened").ends.push(end.clone());
            drop(visits);
            assert!(!conn.is_open(), "it has ended");
            if conn.state().does(Habit::SUBSCRIBES) {
                let _ = conn.subscribe(">");
            }
            let _ = conn.send("too late");
            if conn.state().does(Habit::CLOSE_PANICS) {
                self.record.panic();
            }
        });
    }
}
