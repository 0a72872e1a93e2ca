//! The futures of the application.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use tidewheel::Time;

use super::record::{Record, count};

/// The course of a future.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Course {
    AtOnce,
    /// It is polled three times.
    Yields,
    Short,
    Long,
    Never,
    PanicsAtOnce,
    PanicsLater,
    /// Its destructor panics.
    PanicsWhenDropped,
}

impl Course {
    /// The course for the lowest three bits of a byte.
    pub(crate) fn from_bits(byte: u8) -> Self {
        [
            Self::AtOnce,
            Self::Yields,
            Self::Short,
            Self::Long,
            Self::Never,
            Self::PanicsAtOnce,
            Self::PanicsLater,
            Self::PanicsWhenDropped,
        ][usize::from(byte & 7)]
    }

    /// Whether the future ends without a panic.
    pub(crate) fn ends(self) -> bool {
        match self {
            Self::AtOnce | Self::Yields | Self::Short | Self::Long => true,
            Self::Never | Self::PanicsAtOnce | Self::PanicsLater | Self::PanicsWhenDropped => false,
        }
    }

    fn delay(self) -> Duration {
        match self {
            Self::AtOnce | Self::Yields | Self::Never | Self::PanicsAtOnce => Duration::ZERO,
            Self::Short | Self::PanicsLater | Self::PanicsWhenDropped => Duration::from_millis(5),
            Self::Long => Duration::from_millis(150),
        }
    }
}

/// The numbers of the futures of a connection that run in order.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// Number of futures that were added.
    pub(crate) added: Cell<usize>,
    /// Number of futures that have finished.
    pub(crate) finished: Cell<usize>,
    /// Number of closures that were called.
    pub(crate) called: Cell<usize>,
}

/// A future of the application.
pub(crate) struct Task {
    record: Rc<Record>,
    course: Course,
    /// The order of the connection, and the number of this future in it.
    order: Option<(Rc<Order>, usize)>,
    polls: usize,
    until: Time,
}

impl Task {
    pub(crate) fn new(
        record: &Rc<Record>,
        course: Course,
        order: Option<(Rc<Order>, usize)>,
    ) -> Self {
        count(&record.futures);
        Self {
            record: Rc::clone(record),
            course,
            order,
            polls: 0,
            until: Time::default(),
        }
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        let record = &self.record;
        if self.polls == 0 {
            self.until = record.now() + self.course.delay();
            if let Some((order, number)) = &self.order {
                let finished = order.finished.get();
                assert_eq!(finished, *number, "a future starts after those before it");
            }
        }
        self.polls += 1;
        let is_pending = match self.course {
            Course::AtOnce => false,
            Course::Yields => {
                context.waker().wake_by_ref();
                self.polls < 3
            }
            Course::Never => true,
            Course::PanicsAtOnce => false,
            Course::Short | Course::Long | Course::PanicsLater | Course::PanicsWhenDropped => {
                let is_pending = record.now() < self.until;
                if is_pending {
                    record.wake_at(self.until, context.waker());
                }
                is_pending
            }
        };
        if is_pending {
            return Poll::Pending;
        }
        // A future that panics has finished, too: the next one in order starts.
        if let Some((order, _)) = &self.order {
            count(&order.finished);
        }
        if matches!(self.course, Course::PanicsAtOnce | Course::PanicsLater) {
            record.panic();
        }
        Poll::Ready(())
    }
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let record = Rc::clone(&self.record);
        record.watch(|| Self::poll(&mut self, context))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.record.futures.set(self.record.futures.get() - 1);
        if self.course == Course::PanicsWhenDropped {
            drop(Bomb::new(&self.record));
        }
    }
}

/// A value whose destructor panics.
pub(crate) struct Bomb(Rc<Record>);

impl Bomb {
    pub(crate) fn new(record: &Rc<Record>) -> Self {
        Self(Rc::clone(record))
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.panic();
        }
    }
}
