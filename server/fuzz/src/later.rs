//! Closures that the application asks for later: after a task, at a timer, or by another thread.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use tidewheel::{CloseCode, Conn, Time, TimerId, shard::TICK_MS};

use super::{
    application::Application,
    record::count,
    task::{Bomb, Course, Task},
};

/// Maximum number of timers of a connection.
const TIMERS_MAX: usize = 1024;

/// Maximum number of closures that each start the next one.
const DEPTH_MAX: u8 = 3;

/// The action of a closure with its connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    Nothing,
    Send,
    Subscribe,
    Publish,
    /// Closes, and then tries to start a task and a timer.
    Close,
    Spawn,
    SetTimer,
    Panic,
}

impl Step {
    /// The step for the lowest three bits of a byte.
    pub(crate) fn from_bits(byte: u8) -> Self {
        [
            Self::Nothing,
            Self::Send,
            Self::Subscribe,
            Self::Publish,
            Self::Close,
            Self::Spawn,
            Self::SetTimer,
            Self::Panic,
        ][usize::from(byte & 7)]
    }
}

/// A timer that is to expire.
#[derive(Debug)]
pub(crate) struct PendingTimer {
    id: TimerId,
    /// `None` for a closure that captures nothing.
    number: Option<usize>,
    due: Time,
}

/// The closures of a connection that are still to be called.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Number of tasks whose closure was not called.
    pub(crate) tasks: Cell<usize>,
    pub(crate) timers: RefCell<Vec<PendingTimer>>,
}

impl Pending {
    /// Returns whether a timer was due more than a tick before `now`.
    fn is_timer_missing(&self, now: Time) -> bool {
        let tick = Duration::from_millis(TICK_MS);
        self.timers.borrow().iter().any(|it| it.due + tick < now)
    }
}

/// The closures of a connection.
#[derive(Debug, Default)]
pub(crate) struct Later {
    pub(crate) order: Rc<super::task::Order>,
    pub(crate) pending: Rc<Pending>,
    /// Timers that have expired or were cancelled.
    past_timers: Vec<TimerId>,
    timers_set: usize,
}

impl Application {
    /// Starts tasks: bits 0 to 2 of `argument` are their [`Course`], 3 to 5 the [`Step`] that follows, bit 6 starts
    /// them in order, and bit 7 starts 20.
    pub(crate) fn start_tasks(&self, conn: &mut Conn<'_, Self>, argument: u8) {
        let (course, step) = (Course::from_bits(argument), Step::from_bits(argument >> 3));
        let is_ordered = argument & 64 != 0;
        let count = if argument & 128 == 0 { 1 } else { 20 };
        for _ in 0..count {
            self.spawn(conn, course, step, is_ordered, 0);
        }
    }

    pub(crate) fn spawn(
        &self,
        conn: &mut Conn<'_, Self>,
        course: Course,
        step: Step,
        is_ordered: bool,
        depth: u8,
    ) {
        if !self.record.take_start() {
            return;
        }
        let id = conn.id();
        let futures = self.record.futures.get();
        let is_open = conn.is_open();
        if is_ordered {
            let order = Rc::clone(&conn.state().later.order);
            let number = order.added.get();
            count(&order.added);
            let task = Task::new(&self.record, course, Some((order, number)));
            conn.spawn_in_order(task, move |app: &mut Self, conn, ()| {
                app.watch_task(conn, id, |app, conn| {
                    let order = &conn.state().later.order;
                    assert_eq!(order.called.get(), number, "closures are called in order");
                    count(&order.called);
                    app.take_step(conn, step, depth);
                });
            });
        } else {
            let task = Task::new(&self.record, course, None);
            conn.spawn(task, move |app: &mut Self, conn, ()| {
                app.watch_task(conn, id, |app, conn| app.take_step(conn, step, depth));
            });
        }
        if is_open {
            count(&conn.state().later.pending.tasks);
        }
        let started = self.record.futures.get() - futures;
        assert_eq!(started, 1, "the task has started");
    }

    fn watch_task(
        &self,
        conn: &mut Conn<'_, Self>,
        id: tidewheel::ConnectionId,
        call: impl FnOnce(&Self, &mut Conn<'_, Self>),
    ) {
        self.record.watch(|| {
            count(&self.record.tasks);
            assert_eq!(conn.id(), id, "the connection of the task");
            conn.state().check_may_be_called();
            assert!(conn.is_open(), "the connection is open");
            let tasks = &conn.state().later.pending.tasks;
            tasks.set(tasks.get() - 1);
            call(self, conn);
        });
    }

    /// Sets timers: bits 0 to 2 of `argument` are their delay, and 3 to 5 the [`Step`] of each. With bit 6, the
    /// destructors of their closures panic. Bit 7 sets 200.
    pub(crate) fn set_timers(&self, conn: &mut Conn<'_, Self>, argument: u8) {
        let count = if argument & 128 == 0 { 1 } else { 200 };
        for _ in 0..count {
            let captured = (argument & 64 != 0).then(|| Bomb::new(&self.record));
            let step = Step::from_bits(argument >> 3);
            self.set_timer(conn, argument & 7, step, 0, captured);
        }
    }

    fn set_timer(
        &self,
        conn: &mut Conn<'_, Self>,
        delay: u8,
        step: Step,
        depth: u8,
        captured: Option<Bomb>,
    ) {
        if !self.record.take_start() {
            return;
        }
        let ms = Duration::from_millis;
        let delay = match delay {
            0 => ms(0),
            1 => ms(1),
            2 => ms(16),
            3 => ms(40),
            4 => ms(300),
            5 => ms(5000),
            6 => Duration::MAX,
            _ => ms(20),
        };
        let number = conn.state().later.timers_set;
        // A closure that captures nothing.
        let is_bare = delay == ms(20);
        let timer = if is_bare {
            conn.after(delay, |app: &mut Self, conn| {
                app.expire(conn, None, Step::Nothing, 0);
            })
        } else {
            conn.after(delay, move |app: &mut Self, conn| {
                let _ = &captured;
                app.expire(conn, Some(number), step, depth);
            })
        };
        let may_be_set =
            conn.is_open() && conn.state().later.pending.timers.borrow().len() < TIMERS_MAX;
        assert_eq!(timer.is_some(), may_be_set, "the number of timers");
        let later = &mut conn.state().later;
        later.timers_set += 1;
        if let Some(id) = timer {
            later.pending.timers.borrow_mut().push(PendingTimer {
                id,
                number: (!is_bare).then_some(number),
                due: self.record.now() + delay,
            });
        }
    }

    /// Handles the expiry of a timer.
    fn expire(&self, conn: &mut Conn<'_, Self>, number: Option<usize>, step: Step, depth: u8) {
        self.record.watch(|| {
            count(&self.record.timers);
            conn.state().check_may_be_called();
            assert!(conn.is_open(), "the connection is open");
            let (now, later) = (self.record.now(), &mut conn.state().later);
            let is_it = |timer: &PendingTimer| timer.number == number;
            // Timers without a number have one delay, so the first is the oldest.
            let mut timers = later.pending.timers.borrow_mut();
            let at = timers.iter().position(is_it);
            let timer = timers.remove(at.expect("a timer expires once"));
            drop(timers);
            assert!(now >= timer.due, "a timer expires not before its time");
            let late = now.since(timer.due).as_millis();
            assert!(
                !self.is_punctual || late <= u128::from(TICK_MS),
                "a timer is {late} ms late"
            );
            later.past_timers.push(timer.id);
            assert!(!conn.cancel(timer.id), "the timer has expired");
            self.take_step(conn, step, depth);
        });
    }

    /// Cancels a timer: a pending one if `argument` is even, all of them if it is 254, and a past one otherwise.
    pub(crate) fn cancel_timer(&self, conn: &mut Conn<'_, Self>, argument: u8) {
        let (state, link) = conn.split();
        let later = &mut state.later;
        let count = if argument == 254 { usize::MAX } else { 1 };
        if argument.is_multiple_of(2) {
            let mut timers = later.pending.timers.borrow_mut();
            for _ in 0..count.min(timers.len()) {
                let at = usize::from(argument / 2) % timers.len();
                let timer = timers.remove(at);
                assert!(link.cancel(timer.id), "the timer was pending");
                assert!(!link.cancel(timer.id), "the timer was cancelled");
                later.past_timers.push(timer.id);
            }
        } else if !later.past_timers.is_empty() {
            let at = usize::from(argument / 2) % later.past_timers.len();
            assert!(!link.cancel(later.past_timers[at]), "the timer is past");
        }
    }

    /// Checks that every timer that was due has expired.
    pub(crate) fn check_no_timer_is_missing(&self, conn: &mut Conn<'_, Self>) {
        let is_missing = conn
            .state()
            .later
            .pending
            .is_timer_missing(self.record.now());
        assert!(!self.is_punctual || !is_missing, "a timer is missing");
    }

    /// Checks that a connection that is not open starts tasks, and no timer.
    pub(crate) fn check_starts_tasks_only(&self, conn: &mut Conn<'_, Self>) {
        assert!(!conn.is_open());
        self.spawn(conn, Course::AtOnce, Step::Nothing, false, 0);
        self.spawn(conn, Course::AtOnce, Step::Nothing, true, 0);
        self.set_timer(conn, 0, Step::Nothing, 0, None);
        let (state, link) = conn.split();
        for timer in &*state.later.pending.timers.borrow() {
            assert!(
                !link.cancel(timer.id),
                "a connection that closes has no timers"
            );
        }
    }

    pub(crate) fn take_step(&self, conn: &mut Conn<'_, Self>, step: Step, depth: u8) {
        let next = match depth + 1 < DEPTH_MAX {
            true => step,
            false => Step::Send,
        };
        match step {
            Step::Nothing => {}
            Step::Send => {
                if self.record.take_quota(100) {
                    let _ = conn.send([b'.'; 100]);
                }
            }
            Step::Subscribe => match conn.subscribe("a/b").expect("the topic is valid") {
                true => {}
                false => assert_eq!(conn.unsubscribe("a/b"), Ok(true)),
            },
            Step::Publish => {
                if self.record.take_quota(100) {
                    let _ = conn.publish("a/b", [b'.'; 100]);
                }
            }
            Step::Close => {
                let closed = conn.close(CloseCode(4001), "requested later");
                assert!(closed.is_ok(), "the code is valid");
                self.check_starts_tasks_only(conn);
            }
            Step::Spawn => self.spawn(
                conn,
                Course::Yields,
                next,
                depth.is_multiple_of(2),
                depth + 1,
            ),
            Step::SetTimer => self.set_timer(conn, depth % 2, next, depth + 1, None),
            Step::Panic => self.panic_in(conn),
        }
    }
}
