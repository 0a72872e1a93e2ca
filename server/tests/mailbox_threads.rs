//! The mailbox under threads as they come, and many messages: loom explores every interleaving, but of a
//! few operations. This needs nothing but the standard library, so that it can be compiled by itself, with
//! a sanitizer.

#[path = "../src/fanout/mailbox.rs"]
#[allow(dead_code, missing_docs)]
mod mailbox;
mod sync {
    pub(super) use std::sync::atomic;
}

use std::{
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use mailbox::{Closed, Mailbox};

const WRITERS: usize = 3;

/// Messages of each writer.
const MESSAGES: usize = 20_000;

/// Mailboxes that are closed while threads add to them.
const CLOSES: usize = 300;

/// No wake-up takes as long, however busy the machine is.
const LOST: Duration = Duration::from_secs(60);

/// The writer, and the number of the message among those of this writer.
type Numbered = Box<[usize; 2]>;

/// Checks that messages come in the order of their writers.
#[derive(Default)]
struct Order {
    next: [usize; WRITERS],
}

impl Order {
    fn note(&mut self, message: &Numbered) {
        let [writer, number] = **message;
        assert_eq!(number, self.next[writer], "of writer {writer}");
        self.next[writer] += 1;
    }

    fn is_complete(&self) -> bool {
        self.next == [MESSAGES; WRITERS]
    }
}

#[test]
fn every_message_comes_once_and_in_the_order_of_its_writer() {
    let mailbox = Mailbox::new();
    let mut order = Order::default();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let mailbox = &mailbox;
            scope.spawn(move || {
                for number in 0..MESSAGES {
                    let added = mailbox.add(Box::new([writer, number]));
                    assert!(added.is_ok(), "nobody closes it");
                }
            });
        }
        while !order.is_complete() {
            mailbox.take(|message| order.note(&message));
            thread::yield_now();
        }
    });
    assert_eq!(mailbox.len(), 0);
}

#[test]
fn a_reader_that_waits_for_wake_ups_gets_everything() {
    let mailbox = Mailbox::new();
    let mut order = Order::default();
    let (wake, woken) = mpsc::channel();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (mailbox, wake) = (&mailbox, wake.clone());
            scope.spawn(move || {
                for number in 0..MESSAGES {
                    if mailbox.add(Box::new([writer, number])) == Ok(true) {
                        wake.send(()).expect("the reader waits");
                    }
                }
            });
        }
        while !order.is_complete() {
            woken.recv_timeout(LOST).expect("a wake-up for each list");
            mailbox.take(|message| order.note(&message));
        }
    });
    assert_eq!(mailbox.len(), 0);
}

/// Counts how many of its kind there are.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Box<Self> {
        count.fetch_add(1, Ordering::Relaxed);
        Box::new(Self(count))
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn what_is_added_before_the_close_is_read_and_what_comes_later_is_refused() {
    let alive = AtomicUsize::new(0);
    for round in 0..CLOSES {
        let mailbox = Mailbox::new();
        let added = AtomicUsize::new(0);
        let mut read = 0;
        thread::scope(|scope| {
            for _ in 0..WRITERS {
                scope.spawn(|| {
                    while mailbox.add(Counted::new(&alive)).is_ok() {
                        added.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            while added.load(Ordering::Relaxed) < round {
                mailbox.take(|_| read += 1);
                thread::yield_now();
            }
            assert!(mailbox.close(|_| read += 1), "it was open");
        });
        assert_eq!(added.into_inner(), read, "each that was added");
        assert_eq!(alive.load(Ordering::Relaxed), 0, "nobody has one any more");
        assert_eq!(mailbox.add(Counted::new(&alive)), Err(Closed));
        assert_eq!((alive.load(Ordering::Relaxed), mailbox.len()), (0, 0));
    }
}
