//! A client that asks and is answered all the while, and feels what the others cost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::support::{
    client::{Client, text},
    ms, wait,
};

/// Between an answer and the next question.
const PAUSE: Duration = ms(1);

/// The prober, and its thread.
#[derive(Debug)]
pub(crate) struct Prober {
    rounds: Arc<Rounds>,
    thread: Option<JoinHandle<()>>,
}

/// What it has seen.
#[derive(Debug, Default)]
struct Rounds {
    count: AtomicU64,
    worst_micros: AtomicU64,
    stop: AtomicBool,
}

impl Prober {
    /// Begins to ask.
    pub(crate) fn start(mut client: Client) -> Self {
        let rounds = Arc::new(Rounds::default());
        let seen = Arc::clone(&rounds);
        let thread = std::thread::spawn(move || {
            let question = text("are you there?");
            while !seen.stop.load(Ordering::Relaxed) {
                let start = wait::now();
                client.send(&question);
                client.expect(0x81, "are you there?");
                let micros = start.elapsed().as_micros() as u64;
                seen.worst_micros.fetch_max(micros, Ordering::Relaxed);
                seen.count.fetch_add(1, Ordering::Relaxed);
                wait::pause(PAUSE);
            }
        });
        Self {
            rounds,
            thread: Some(thread),
        }
    }

    /// Waits for `count` more round trips.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: u64) {
        let target = self.rounds.count.load(Ordering::Relaxed) + count;
        wait::until(ms(20_000), "answers come", || {
            self.rounds.count.load(Ordering::Relaxed) >= target
        });
    }

    /// The slowest round trip that has ended since this was last asked; none that began before
    /// the call is left out.
    #[track_caller]
    pub(crate) fn worst(&self) -> Duration {
        self.wait_for(1);
        Duration::from_micros(self.rounds.worst_micros.swap(0, Ordering::Relaxed))
    }

    /// Stops asking.
    pub(crate) fn stop(mut self) {
        self.rounds.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is taken once");
        thread.join().expect("every question was answered");
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.rounds.stop.store(true, Ordering::Relaxed);
    }
}
