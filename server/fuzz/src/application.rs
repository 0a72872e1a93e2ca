//! The handler: it follows the commands in messages, and keeps a record.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    panic::panic_any,
    rc::Rc,
};

use tidewheel::{
    CloseCode, Conn, ConnectionId, Disconnect, Handler, Message, Request, Response, Verdict,
};

/// Maximum number of bytes that the handler sends and publishes in a run, beside echoes.
const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Patterns to subscribe to; the last two are invalid.
pub(crate) const PATTERNS: [&str; 8] = ["a", "a/b", "a/*", "kept/x", "kept/>", ">", "a//b", "a/b*"];

/// Topics to publish to; the last two are invalid.
const TOPICS: [&str; 6] = ["a", "a/b", "kept/x", "kept/y", "a/*", ""];

/// First byte of a message to be echoed.
pub(crate) const ECHO: u8 = b'e';

/// First byte of a message to be published.
pub(crate) const PUBLISH: u8 = b'p';

/// First byte of a message to be published to all other connections.
pub(crate) const PUBLISH_TO_OTHERS: u8 = b'o';

/// Bits of the handler's behavior for one connection, from the path of its request.
#[derive(Debug)]
pub struct Behavior;

impl Behavior {
    /// The request for a WebSocket is refused.
    pub const REJECTS: u8 = 1;
    /// `upgrade` and `http` panic.
    pub const UPGRADE_PANICS: u8 = 2;
    /// `open` panics.
    pub const OPEN_PANICS: u8 = 4;
    /// `close` panics.
    pub const CLOSE_PANICS: u8 = 8;
    /// Dropping the state panics.
    pub const DROP_PANICS: u8 = 16;
    /// `drained` and `gap` panic.
    pub const DRAINED_PANICS: u8 = 32;
    /// `open` sends a message.
    pub const GREETS: u8 = 64;
    /// `open` subscribes to all topics, and `close` tries to do so again.
    pub const SUBSCRIBES: u8 = 128;
}

/// The payload of a panic that the input requests.
pub(crate) struct RequestedPanic;

/// The handler's record of a connection.
#[derive(Debug)]
pub(crate) struct ConnectionRecord {
    pub(crate) id: ConnectionId,
    /// The client's index, from the path of its request.
    pub(crate) client: Option<usize>,
    /// Number of `open` calls.
    pub(crate) opens: usize,
    /// The arguments of the `close` calls.
    pub(crate) ends: Vec<Disconnect>,
}

/// The handler's record of a run.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) connections: RefCell<Vec<ConnectionRecord>>,
    /// Topics that are active, by the last call for each.
    pub(crate) active_topics: RefCell<BTreeSet<String>>,
    /// Number of dropped messages that `gap` reported.
    pub(crate) missed: Cell<u64>,
    /// Number of panics in callbacks that were not requested.
    pub(crate) unexpected_panics: Cell<usize>,
    /// Whether the current panic was requested.
    is_panic_requested: Cell<bool>,
    /// Number of bytes sent beside echoes.
    output: Cell<usize>,
}

impl Record {
    fn panic(&self) -> ! {
        self.is_panic_requested.set(true);
        panic_any(RequestedPanic)
    }

    /// Runs a callback, and counts a panic that was not requested, because the shard contains it.
    fn watch<T>(&self, callback: impl FnOnce() -> T) -> T {
        struct Watch<'a>(&'a Record);
        impl Drop for Watch<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() && !self.0.is_panic_requested.replace(false) {
                    self.0
                        .unexpected_panics
                        .set(self.0.unexpected_panics.get() + 1);
                }
            }
        }
        let _watch = Watch(self);
        callback()
    }

    /// Counts `bytes` of output, unless that exceeds the limit; returns whether they may be sent.
    fn take_quota(&self, bytes: usize) -> bool {
        let output = self.output.get() + bytes;
        let is_allowed = output <= OUTPUT_BYTES_MAX;
        if is_allowed {
            self.output.set(output);
        }
        is_allowed
    }
}

/// The application's state of a connection.
pub(crate) struct State {
    client: Option<usize>,
    behavior: u8,
}

impl State {
    fn does(&self, bit: u8) -> bool {
        self.behavior & bit != 0
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if self.does(Behavior::DROP_PANICS) && !std::thread::panicking() {
            // Destructors do not run within `watch`.
            panic_any(RequestedPanic);
        }
    }
}

/// The handler. The first byte of a message is a command, the second its argument:
///
/// | byte | command |
/// |---|---|
/// | `s`, `u` | subscribe to a pattern, or unsubscribe |
/// | `p`, `o` | publish the message up to 16 times, to all connections or to all others |
/// | `m` | send the message up to 64 times |
/// | `c` | close |
/// | `g` | send a Ping |
/// | `!` | send the message and panic |
/// | others | echo |
pub(crate) struct Application {
    pub(crate) record: Rc<Record>,
    /// Maximum length of a client's send queue in bytes when a message is read.
    pub(crate) unsent_max: usize,
}

impl Application {
    fn answer(&self, conn: &mut Conn<'_, Application>, message: Message<'_>) {
        assert!(conn.unsent() < self.unsent_max, "the send queue is bounded");
        assert!(
            conn.is_open(),
            "messages are read only while the connection is open"
        );
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
                    if self.record.take_quota(length) {
                        publish(conn, letter, topic, &message);
                    }
                }
            }
            b'm' => {
                for _ in 0..=argument % 64 {
                    if self.record.take_quota(length) {
                        let _ = match message.as_text() {
                            Some(text) => conn.send(text),
                            None => conn.send(message.payload()),
                        };
                    }
                }
            }
            b'c' => {
                let code = [1000, 4000, 1005, 1011][argument % 4];
                let closed = conn.close(CloseCode(code), "requested");
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

fn publish(conn: &mut Conn<'_, Application>, letter: u8, topic: &str, message: &Message<'_>) {
    // Errors are allowed: Busy, and invalid topics.
    let _ = match (message.as_text(), letter) {
        (Some(text), PUBLISH) => conn.publish(topic, text),
        (Some(text), _) => conn.publish_to_others(topic, text),
        (None, PUBLISH) => conn.publish(topic, message.payload()),
        (None, _) => conn.publish_to_others(topic, message.payload()),
    };
}

/// The path of a client's request.
pub(crate) fn path(client: usize, behavior: u8) -> String {
    format!("/{client}/{behavior}")
}

fn parse_path(path: &str) -> Option<(usize, u8)> {
    let (client, behavior) = path.strip_prefix('/')?.split_once('/')?;
    Some((client.parse().ok()?, behavior.parse().ok()?))
}

impl Handler for Application {
    type State = State;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<State> {
        self.record.watch(|| {
            let parsed = parse_path(request.path());
            let behavior = parsed.map_or(0, |(_, behavior)| behavior);
            if behavior & Behavior::UPGRADE_PANICS != 0 {
                self.record.panic();
            }
            if behavior & Behavior::REJECTS != 0 {
                return Verdict::reject(Response::text(403, "requested"));
            }
            Verdict::accept(State {
                client: parsed.map(|(client, _)| client),
                behavior,
            })
        })
    }

    fn http(&mut self, request: &Request<'_>) -> Response {
        self.record.watch(|| {
            let behavior = parse_path(request.path()).map_or(0, |(_, behavior)| behavior);
            if behavior & Behavior::UPGRADE_PANICS != 0 {
                self.record.panic();
            }
            Response::new(u16::from(behavior) * 4).body(request.body().to_vec())
        })
    }

    fn open(&mut self, conn: &mut Conn<'_, Self>) {
        self.record.watch(|| {
            let id = conn.id();
            let mut connections = self.record.connections.borrow_mut();
            match connections
                .iter_mut()
                .find(|connection| connection.id == id)
            {
                Some(connection) => connection.opens += 1,
                None => connections.push(ConnectionRecord {
                    id,
                    client: conn.state().client,
                    opens: 1,
                    ends: Vec::new(),
                }),
            }
            drop(connections);
            if conn.state().does(Behavior::SUBSCRIBES) {
                assert!(conn.subscribe(">").is_ok());
            }
            if conn.state().does(Behavior::GREETS) {
                let _ = conn.send("hello");
            }
            if conn.state().does(Behavior::OPEN_PANICS) {
                self.record.panic();
            }
        });
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        self.record.watch(|| self.answer(conn, message));
    }

    fn drained(&mut self, conn: &mut Conn<'_, Self>) {
        self.record.watch(|| {
            if conn.state().does(Behavior::DRAINED_PANICS) {
                self.record.panic();
            }
        });
    }

    fn gap(&mut self, conn: &mut Conn<'_, Self>, missed: u64) {
        self.record.watch(|| {
            assert!(missed > 0, "`gap` reports at least one message");
            self.record.missed.set(self.record.missed.get() + missed);
            if conn.state().does(Behavior::DRAINED_PANICS) {
                self.record.panic();
            }
        });
    }

    fn topic_active(&mut self, pattern: &str) {
        self.record.watch(|| {
            let mut active = self.record.active_topics.borrow_mut();
            assert!(active.insert(pattern.to_owned()), "{pattern} was active");
        });
    }

    fn topic_idle(&mut self, pattern: &str) {
        self.record.watch(|| {
            let mut active = self.record.active_topics.borrow_mut();
            assert!(active.remove(pattern), "{pattern} was idle");
        });
    }

    fn close(&mut self, conn: &mut Conn<'_, Self>, end: &Disconnect) {
        self.record.watch(|| {
            let id = conn.id();
            let mut connections = self.record.connections.borrow_mut();
            let connection = connections
                .iter_mut()
                .find(|connection| connection.id == id);
            connection
                .expect("`open` was called before")
                .ends
                .push(end.clone());
            drop(connections);
            assert!(!conn.is_open(), "the connection has ended");
            if conn.state().does(Behavior::SUBSCRIBES) {
                let _ = conn.subscribe(">");
            }
            let _ = conn.send("too late");
            if conn.state().does(Behavior::CLOSE_PANICS) {
                self.record.panic();
            }
        });
    }
}
