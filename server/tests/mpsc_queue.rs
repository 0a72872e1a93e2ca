//! The queue in all interleavings that loom explores.

#[path = "../src/fanout/mpsc_queue.rs"]
#[allow(dead_code, missing_docs)]
mod mpsc_queue;
mod sync {
    pub(super) use loom::sync::atomic;
}

use loom::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use mpsc_queue::{Closed, MpscQueue};

/// Runs `test` in every interleaving with at most two preemptions, which find most defects (Musuvathi and
/// Qadeer, 2007).
fn model(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(test);
}

fn take(queue: &MpscQueue<u32>) -> Vec<u32> {
    let mut taken = Vec::new();
    queue.take(|item| taken.push(item));
    taken
}

#[test]
fn every_item_is_taken_in_the_order_of_its_writer() {
    model(|| {
        let queue = Arc::new(MpscQueue::new());
        let writers = [10, 20].map(|first| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                queue.add(first).unwrap();
                queue.add(first + 1).unwrap();
            })
        });
        let mut taken = take(&queue);
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        taken.extend(take(&queue));
        let position = |item| taken.iter().position(|it| *it == item).unwrap();
        assert_eq!(taken.len(), 4);
        let is_ordered = position(10) < position(11) && position(20) < position(21);
        assert!(is_ordered, "{taken:?}");
    });
}

#[test]
fn a_writer_that_finds_the_queue_empty_wakes_the_reader() {
    model(|| {
        let queue = Arc::new(MpscQueue::new());
        let wakeup = Arc::new(AtomicBool::new(false));
        let writers = [1, 2].map(|item| {
            let (queue, wakeup) = (Arc::clone(&queue), Arc::clone(&wakeup));
            thread::spawn(move || {
                if queue.add(item).unwrap() {
                    wakeup.store(true, Ordering::SeqCst);
                }
            })
        });
        // The reader clears the wake-up, and then takes the items.
        wakeup.store(false, Ordering::SeqCst);
        let taken = take(&queue).len();
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        let left = take(&queue).len();
        assert_eq!(taken + left, 2);
        assert!(
            left == 0 || wakeup.load(Ordering::SeqCst),
            "an item is left without a wake-up"
        );
    });
}

#[test]
fn a_reader_that_starts_to_wait_late_is_woken_or_finds_the_item() {
    model(|| {
        let queue = Arc::new(MpscQueue::new());
        let waits = Arc::new(AtomicBool::new(false));
        let writer = {
            let (queue, waits) = (Arc::clone(&queue), Arc::clone(&waits));
            thread::spawn(move || queue.add(7).unwrap() && waits.load(Ordering::SeqCst))
        };
        waits.store(true, Ordering::SeqCst);
        let taken = take(&queue);
        let is_woken = writer.join().unwrap();
        assert!(
            is_woken || taken == [7],
            "the reader is not woken and does not find the item"
        );
    });
}

#[test]
fn an_item_that_is_never_taken_is_dropped() {
    model(|| {
        let item = Arc::new(());
        let queue = MpscQueue::new();
        queue.add(Arc::clone(&item)).unwrap();
        queue.add(Arc::clone(&item)).unwrap();
        drop(queue);
        assert_eq!(Arc::strong_count(&item), 1);
    });
}

#[test]
fn an_item_added_during_close_is_rejected_or_dropped() {
    model(|| {
        let message = Arc::new(());
        let queue = Arc::new(MpscQueue::new());
        let writers = [(), ()].map(|()| {
            let (queue, message) = (Arc::clone(&queue), Arc::clone(&message));
            thread::spawn(move || queue.add(message))
        });
        let was_open = queue.close(drop);
        let added = writers.map(|writer| writer.join().unwrap());
        assert!(was_open);
        assert!(
            added.iter().filter(|added| **added == Ok(true)).count() <= 1,
            "more than one writer wakes the reader: {added:?}"
        );
        assert_eq!(queue.len(), 0);
        assert_eq!(Arc::strong_count(&message), 1, "an item is not dropped");
        assert_eq!(queue.add(Arc::clone(&message)), Err(Closed));
        assert!(!queue.close(drop), "close succeeds twice");
        queue.take(|_| panic!("an item is left after close"));
        assert_eq!(queue.add(message), Err(Closed), "take reopens the queue");
    });
}

#[test]
fn close_does_not_drop_items_that_were_taken() {
    model(|| {
        let queue = Arc::new(MpscQueue::new());
        let writer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || [1, 2].map(|message| queue.add(message)))
        };
        let taken = take(&queue);
        queue.close(drop);
        let added = writer.join().unwrap();
        let accepted = added.iter().filter(|added| added.is_ok()).count();
        assert!(taken.len() <= accepted, "took {taken:?} of {added:?}");
        assert_eq!(taken, [1, 2][..taken.len()], "not in order, or not once");
        assert!(
            !(added[0].is_err() && added[1].is_ok()),
            "an add succeeds after a failed one: {added:?}"
        );
    });
}
