//! The queue with many messages on real threads; loom explores a few operations only. The file needs
//! only the standard library, so that it can be compiled alone with ThreadSanitizer.

#[path = "../src/fanout/mpsc_queue.rs"]
#[allow(dead_code, missing_docs)]
mod mpsc_queue;
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

use mpsc_queue::{Closed, MpscQueue};

const WRITERS: usize = 3;

/// Number of messages of each writer.
const MESSAGES: usize = 20_000;

/// Number of queues that are closed while threads add to them.
const CLOSES: usize = 300;

/// Time after which a wake-up counts as lost.
const WAKEUP_TIMEOUT: Duration = Duration::from_secs(60);

/// The number of the writer, and the number of the message among those of the writer.
type Numbered = Box<[usize; 2]>;

/// Asserts that the messages of each writer come in order.
#[derive(Default)]
struct Order {
    next: [usize; WRITERS],
}

impl Order {
    fn note(&mut self, message: &Numbered) {
        let [writer, number] = **message;
        assert_eq!(number, self.next[writer], "message of writer {writer}");
        self.next[writer] += 1;
    }

    fn is_complete(&self) -> bool {
        self.next == [MESSAGES; WRITERS]
    }
}

#[test]
fn every_message_is_taken_once_in_the_order_of_its_writer() {
    let queue = MpscQueue::new();
    let mut order = Order::default();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let queue = &queue;
            scope.spawn(move || {
                for number in 0..MESSAGES {
                    let added = queue.add(Box::new([writer, number]));
                    assert!(added.is_ok(), "the queue is closed");
                }
            });
        }
        while !order.is_complete() {
            queue.take(|message| order.note(&message));
            thread::yield_now();
        }
    });
    assert_eq!(queue.len(), 0);
}

#[test]
fn a_reader_that_waits_for_wake_ups_takes_every_message() {
    let queue = MpscQueue::new();
    let mut order = Order::default();
    let (wake, woken) = mpsc::channel();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (queue, wake) = (&queue, wake.clone());
            scope.spawn(move || {
                for number in 0..MESSAGES {
                    if queue.add(Box::new([writer, number])) == Ok(true) {
                        wake.send(()).expect("the reader waits");
                    }
                }
            });
        }
        while !order.is_complete() {
            let wakeup = woken.recv_timeout(WAKEUP_TIMEOUT);
            wakeup.expect("a wake-up was lost");
            queue.take(|message| order.note(&message));
        }
    });
    assert_eq!(queue.len(), 0);
}

/// An item that counts how many of its kind exist.
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
fn items_added_before_close_are_read_and_later_ones_are_rejected() {
    let alive = AtomicUsize::new(0);
    for round in 0..CLOSES {
        let queue = MpscQueue::new();
        let added = AtomicUsize::new(0);
        let mut read = 0;
        thread::scope(|scope| {
            for _ in 0..WRITERS {
                scope.spawn(|| {
                    while queue.add(Counted::new(&alive)).is_ok() {
                        added.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            while added.load(Ordering::Relaxed) < round {
                queue.take(|_| read += 1);
                thread::yield_now();
            }
            assert!(queue.close(|_| read += 1), "the queue was closed already");
        });
        assert_eq!(added.into_inner(), read, "items read of the items added");
        assert_eq!(alive.load(Ordering::Relaxed), 0, "an item is not dropped");
        assert_eq!(queue.add(Counted::new(&alive)), Err(Closed));
        assert_eq!((alive.load(Ordering::Relaxed), queue.len()), (0, 0));
    }
}
