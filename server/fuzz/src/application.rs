//! The handler: it follows the commands in messages, and keeps a record.

use std::{panic::panic_any, rc::Rc};

use tidewheel::{CloseCode, Conn, Disconnect, Handler, Message, Request, Response, Verdict};

use super::{
    later::Later,
    record::{ConnectionRecord, Record, RequestedPanic},
    task::{Course, Task},
};

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

/// First byte of a message that starts tasks.
pub const START_TASKS: u8 = b't';

/// First byte of a message that sets timers.
pub const SET_TIMERS: u8 = b'w';

/// First byte of a message that cancels timers.
pub const CANCEL_TIMERS: u8 = b'x';

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

/// The application's state of a connection.
pub(crate) struct State {
    client: Option<usize>,
    behavior: u8,
    pub(crate) later: Later,
    has_panicked: bool,
    has_ended: bool,
}

impl State {
    /// Asserts that callbacks other than `close` may be called.
    pub(crate) fn check_may_be_called(&self) {
        assert!(!self.has_ended, "no callback follows `close`");
        assert!(!self.has_panicked, "only `close` follows a panic");
    }

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
/// | `t` | start tasks, see [`Application::start_tasks`] |
/// | `w`, `x` | set or cancel timers, see [`Application::set_timers`] and [`Application::cancel_timer`] |
/// | `a` | the next callback for a topic panics |
/// | `!` | send the message and panic |
/// | others | echo |
pub(crate) struct Application {
    pub(crate) record: Rc<Record>,
    /// Maximum length of a client's send queue in bytes when a message is read.
    pub(crate) unsent_max: usize,
    /// Maximum number of tasks of a connection when a message is read.
    pub(crate) tasks_max: usize,
    /// Whether operations take no time, so that timers are at most a tick late.
    pub(crate) is_punctual: bool,
}

impl Application {
    /// Panics in a callback for a topic, if a message has asked for it.
    fn panic_for_topic(&self) {
        if self.record.presence_panics.take() {
            self.record.panic();
        }
    }

    /// Panics in a callback of a connection.
    pub(crate) fn panic_in(&self, conn: &mut Conn<'_, Self>) -> ! {
        conn.state().has_panicked = true;
        self.record.panic()
    }

    fn answer(&self, conn: &mut Conn<'_, Application>, message: Message<'_>) {
        conn.state().check_may_be_called();
        assert!(conn.unsent() < self.unsent_max, "the send queue is bounded");
        assert!(
            conn.is_open(),
            "messages are read only while the connection is open"
        );
        self.check_no_timer_is_missing(conn);
        let tasks = conn.state().later.pending.tasks.get();
        assert!(
            tasks < self.tasks_max,
            "{tasks} tasks when a message is read"
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
                self.panic_in(conn);
            }
            START_TASKS => self.start_tasks(conn, argument as u8),
            SET_TIMERS => self.set_timers(conn, argument as u8),
            CANCEL_TIMERS => self.cancel_timer(conn, argument as u8),
            b'a' => self.record.presence_panics.set(true),
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

/// The path of a client's request. `later` is the course of its answer, see [`Answer`].
pub(crate) fn path(client: usize, behavior: u8, later: u8) -> String {
    format!("/{client}/{behavior}/{later}")
}

/// The answer to a request, from its path.
#[derive(Default)]
struct Answer {
    client: Option<usize>,
    behavior: u8,
    /// The course of the future that returns the answer: 0 for no future, and 1 more than the bits of [`Course`]
    /// otherwise. From 9 on, that future returns another future.
    later: u8,
}

impl Answer {
    fn of(request: &Request<'_>) -> Self {
        let mut parts = request.path().split('/').skip(1);
        let client = parts.next().and_then(|it| it.parse().ok());
        let behavior = parts.next().and_then(|it| it.parse().ok());
        let later = parts.next().and_then(|it| it.parse().ok());
        match behavior {
            None => Self::default(),
            Some(behavior) => Self {
                client,
                behavior,
                later: later.unwrap_or(0),
            },
        }
    }

    fn course(&self) -> Option<Course> {
        Some(Course::from_bits(self.later.checked_sub(1)?))
    }

    fn is_nested(&self) -> bool {
        self.later > 8
    }
}

impl Handler for Application {
    type State = State;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<State> {
        self.record.watch(|| {
            let answer = Answer::of(request);
            let behavior = answer.behavior;
            if behavior & Behavior::UPGRADE_PANICS != 0 {
                self.record.panic();
            }
            let verdict = if behavior & Behavior::REJECTS != 0 {
                Verdict::reject(Response::text(403, "requested"))
            } else {
                Verdict::accept(State {
                    client: answer.client,
                    behavior,
                    later: Later::default(),
                    has_panicked: false,
                    has_ended: false,
                })
            };
            let Some(course) = answer.course() else {
                return verdict;
            };
            let task = Task::new(&self.record, course, None);
            let verdict = Verdict::later(async move {
                task.await;
                verdict
            });
            match answer.is_nested() {
                true => Verdict::later(async move { verdict }),
                false => verdict,
            }
        })
    }

    fn http(&mut self, request: &Request<'_>) -> Response {
        self.record.watch(|| {
            let answer = Answer::of(request);
            if answer.behavior & Behavior::UPGRADE_PANICS != 0 {
                self.record.panic();
            }
            let status = u16::from(answer.behavior) * 4;
            let response = Response::new(status).body(request.body().to_vec());
            let Some(course) = answer.course() else {
                return response;
            };
            let task = Task::new(&self.record, course, None);
            let response = Response::later(async move {
                task.await;
                response
            });
            match answer.is_nested() {
                true => Response::later(async move { response }),
                false => response,
            }
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
                    opened: self.record.now(),
                    pending: Rc::clone(&conn.state().later.pending),
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
                self.panic_in(conn);
            }
        });
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        self.record.watch(|| self.answer(conn, message));
    }

    fn drained(&mut self, conn: &mut Conn<'_, Self>) {
        self.record.watch(|| {
            conn.state().check_may_be_called();
            if conn.state().does(Behavior::DRAINED_PANICS) {
                self.panic_in(conn);
            }
        });
    }

    fn gap(&mut self, conn: &mut Conn<'_, Self>, missed: u64) {
        self.record.watch(|| {
            assert!(missed > 0, "`gap` reports at least one message");
            conn.state().check_may_be_called();
            self.record.missed.set(self.record.missed.get() + missed);
            if conn.state().does(Behavior::DRAINED_PANICS) {
                self.panic_in(conn);
            }
        });
    }

    fn topic_active(&mut self, pattern: &str) {
        self.record.watch(|| {
            let mut active = self.record.active_topics.borrow_mut();
            assert!(active.insert(pattern.to_owned()), "{pattern} was active");
            self.panic_for_topic();
        });
    }

    fn topic_idle(&mut self, pattern: &str) {
        self.record.watch(|| {
            let mut active = self.record.active_topics.borrow_mut();
            assert!(active.remove(pattern), "{pattern} was idle");
            self.panic_for_topic();
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
            self.check_starts_tasks_only(conn);
            conn.state().has_ended = true;
            if conn.state().does(Behavior::CLOSE_PANICS) {
                self.record.panic();
            }
        });
    }
}
