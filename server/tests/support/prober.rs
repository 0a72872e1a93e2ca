//! A client that measures round trips while a test loads the server.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    client::{Client, FIN, TEXT, text},
    ms, wait,
};

/// A thread that sends a message, reads its echo, and repeats; stopped on drop.
#[derive(Debug)]
pub(crate) struct Prober {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Start and duration of each round trip.
    round_trips: Mutex<Vec<(Instant, Duration)>>,
    stops: AtomicBool,
}

impl Shared {
    fn round_trips(&self) -> MutexGuard<'_, Vec<(Instant, Duration)>> {
        self.round_trips
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Prober {
    /// Starts the thread; the server echoes what `client` sends. A round trip begins `interval` after the
    /// start of the one before, or at its end if that is later.
    pub(crate) fn start(mut client: Client, interval: Duration) -> Self {
        let shared = Arc::<Shared>::default();
        let in_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut number = 0_u64;
            while !in_thread.stops.load(Ordering::Relaxed) {
                let message = format!("twenty bytes of text{number}");
                let start = wait::now();
                client.send(&text(&message));
                let frame = client.frame_except_ping();
                let took = start.elapsed();
                assert_eq!(frame.first, FIN | TEXT);
                assert_eq!(frame.payload, message.as_bytes());
                in_thread.round_trips().push((start, took));
                number += 1;
                wait::pause(interval.saturating_sub(took));
            }
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Waits for `count` more round trips.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize) {
        let target = self.shared.round_trips().len() + count;
        wait::until(ms(20_000), "the prober's echoes", || {
            self.shared.round_trips().len() >= target
        });
    }

    /// Returns the longest round trip since the last call, including the one under way.
    #[track_caller]
    pub(crate) fn take_longest(&self) -> Duration {
        self.wait_for(1);
        let round_trips = std::mem::take(&mut *self.shared.round_trips());
        let took = round_trips.iter().map(|(_, took)| *took);
        took.max().expect("at least one round trip")
    }

    /// Returns the 99th percentile and the longest of the round trips that began at `since` or later.
    pub(crate) fn p99_since(&self, since: Instant) -> (Duration, Duration) {
        let round_trips = self.shared.round_trips();
        let recent = round_trips.iter().filter(|(start, _)| *start >= since);
        let mut took: Vec<Duration> = recent.map(|(_, took)| *took).collect();
        took.sort_unstable();
        let at = (took.len() * 99).div_ceil(100).saturating_sub(1);
        let longest = took.last().copied().unwrap_or(Duration::MAX);
        (took.get(at).copied().unwrap_or(Duration::MAX), longest)
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("each message was echoed");
            }
        }
    }
}
