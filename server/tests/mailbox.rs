//! The mailbox in all interleavings that loom explores.

#[path = "../src/fanout/mailbox.rs"]
#[allow(dead_code, missing_docs)]
mod mailbox;
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

use mailbox::{Closed, Mailbox};

/// Runs `test` in every interleaving with at most two preemptions, which find most defects (Musuvathi and
/// Qadeer, 2007).
fn model(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(test);
}

fn take(mailbox: &Mailbox<u32>) -> Vec<u32> {
    let mut taken = Vec::new();
    mailbox.take(|item| taken.push(item));
    taken
}

#[test]
fn every_item_is_taken_in_the_order_of_its_writer() {
    model(|| {
        let mailbox = Arc::new(Mailbox::new());
        let writers = [10, 20].map(|first| {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                mailbox.add(first).unwrap();
                mailbox.add(first + 1).unwrap();
            })
        });
        let mut taken = take(&mailbox);
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        taken.extend(take(&mailbox));
        let position = |item| taken.iter().position(|it| *it == item).unwrap();
        assert_eq!(taken.len(), 4);
        let is_ordered = position(10) < position(11) && position(20) < position(21);
        assert!(is_ordered, "{taken:?}");
    });
}

#[test]
fn a_writer_that_finds_the_mailbox_empty_wakes_the_reader() {
    model(|| {
        let mailbox = Arc::new(Mailbox::new());
        let wakeup = Arc::new(AtomicBool::new(false));
        let writers = [1, 2].map(|item| {
            let (mailbox, wakeup) = (Arc::clone(&mailbox), Arc::clone(&wakeup));
            thread::spawn(move || {
                if mailbox.add(item).unwrap() {
                    wakeup.store(true, Ordering::SeqCst);
                }
            })
        });
        // The reader clears the wake-up, and then takes the items.
        wakeup.store(false, Ordering::SeqCst);
        let taken = take(&mailbox).len();
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        let left = take(&mailbox).len();
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
        let mailbox = Arc::new(Mailbox::new());
        let waits = Arc::new(AtomicBool::new(false));
        let writer = {
            let (mailbox, waits) = (Arc::clone(&mailbox), Arc::clone(&waits));
            thread::spawn(move || mailbox.add(7).unwrap() && waits.load(Ordering::SeqCst))
        };
        waits.store(true, Ordering::SeqCst);
        let taken = take(&mailbox);
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
        let mailbox = Mailbox::new();
        mailbox.add(Arc::clone(&item)).unwrap();
        mailbox.add(Arc::clone(&item)).unwrap();
        drop(mailbox);
        assert_eq!(Arc::strong_count(&item), 1);
    });
}

#[test]
fn an_item_added_during_close_is_rejected_or_dropped() {
    model(|| {
        let message = Arc::new(());
        let mailbox = Arc::new(Mailbox::new());
        let writers = [(), ()].map(|()| {
            let (mailbox, message) = (Arc::clone(&mailbox), Arc::clone(&message));
            thread::spawn(move || mailbox.add(message))
        });
        let was_open = mailbox.close(drop);
        let added = writers.map(|writer| writer.join().unwrap());
        assert!(was_open);
        assert!(
            added.iter().filter(|added| **added == Ok(true)).count() <= 1,
            "more than one writer wakes the reader: {added:?}"
        );
        assert_eq!(mailbox.len(), 0);
        assert_eq!(Arc::strong_count(&message), 1, "an item is not dropped");
        assert_eq!(mailbox.add(Arc::clone(&message)), Err(Closed));
        assert!(!mailbox.close(drop), "close succeeds twice");
        mailbox.take(|_| panic!("an item is left after close"));
        assert_eq!(
            mailbox.add(message),
            Err(Closed),
            "take reopens the mailbox"
        );
    });
}

#[test]
fn close_does_not_drop_items_that_were_taken() {
    model(|| {
        let mailbox = Arc::new(Mailbox::new());
        let writer = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || [1, 2].map(|message| mailbox.add(message)))
        };
        let taken = take(&mailbox);
        mailbox.close(drop);
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
