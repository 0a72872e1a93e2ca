//! The mailbox under every interleaving that loom finds.

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

/// Runs `test` under every interleaving with at most two preemptions, which shows nearly all
/// defects there are (Musuvathi and Qadeer, 2007).
fn model(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(test);
}

fn take(mailbox: &Mailbox<u32>) -> Vec<u32> {
    let mut taken = Vec::new();
    mailbox.take(|mail| taken.push(mail));
    taken
}

#[test]
fn nothing_is_lost_and_each_writers_order_is_kept() {
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
        let place = |mail| taken.iter().position(|it| *it == mail).unwrap();
        assert_eq!(taken.len(), 4);
        assert!(place(10) < place(11) && place(20) < place(21), "{taken:?}");
    });
}

#[test]
fn who_finds_it_empty_wakes_the_reader() {
    model(|| {
        let mailbox = Arc::new(Mailbox::new());
        let bell = Arc::new(AtomicBool::new(false));
        let writers = [1, 2].map(|mail| {
            let (mailbox, bell) = (Arc::clone(&mailbox), Arc::clone(&bell));
            thread::spawn(move || {
                if mailbox.add(mail).unwrap() {
                    bell.store(true, Ordering::SeqCst);
                }
            })
        });
        // A turn of the reader: hear the bell, or not, and look.
        bell.store(false, Ordering::SeqCst);
        let taken = take(&mailbox).len();
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        let left = take(&mailbox).len();
        assert_eq!(taken + left, 2);
        assert!(
            left == 0 || bell.load(Ordering::SeqCst),
            "it sleeps on mail"
        );
    });
}

#[test]
fn a_bell_that_is_hung_up_late_is_rung_or_its_owner_looks() {
    model(|| {
        let mailbox = Arc::new(Mailbox::new());
        let hangs = Arc::new(AtomicBool::new(false));
        let writer = {
            let (mailbox, hangs) = (Arc::clone(&mailbox), Arc::clone(&hangs));
            thread::spawn(move || mailbox.add(7).unwrap() && hangs.load(Ordering::SeqCst))
        };
        hangs.store(true, Ordering::SeqCst);
        let taken = take(&mailbox);
        let is_rung = writer.join().unwrap();
        assert!(is_rung || taken == [7], "nobody rings, and nobody looks");
    });
}

#[test]
fn mail_that_is_never_taken_is_dropped() {
    model(|| {
        let mail = Arc::new(());
        let mailbox = Mailbox::new();
        mailbox.add(Arc::clone(&mail)).unwrap();
        mailbox.add(Arc::clone(&mail)).unwrap();
        drop(mailbox);
        assert_eq!(Arc::strong_count(&mail), 1);
    });
}

#[test]
fn a_message_that_meets_the_close_is_refused_or_dropped() {
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
            "the first of a list wakes the reader: {added:?}"
        );
        assert_eq!(mailbox.len(), 0);
        assert_eq!(Arc::strong_count(&message), 1, "nobody has it any more");
        assert_eq!(mailbox.add(Arc::clone(&message)), Err(Closed));
        assert!(!mailbox.close(drop), "it is closed once");
        mailbox.take(|_| panic!("there is nothing to take"));
        assert_eq!(mailbox.add(message), Err(Closed), "taking does not open it");
    });
}

#[test]
fn what_is_taken_before_the_close_is_not_dropped_by_it() {
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
        assert!(taken.len() <= accepted, "{taken:?} of {added:?}");
        assert_eq!(taken, [1, 2][..taken.len()], "in order, and each once");
        assert!(
            !(added[0].is_err() && added[1].is_ok()),
            "it stays closed: {added:?}"
        );
    });
}
