//! A client that has nothing to do with an overload, and what its round trips take.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    support::{
        client::{self, Client},
        disturbance,
        process::Server,
        wait,
    },
    tell,
};

/// Between two messages.
const INTERVAL: Duration = Duration::from_millis(4);

/// Sends a message, waits for it, and begins again.
pub(crate) struct Bystander {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    round_trips: Mutex<Vec<(Instant, Duration)>>,
    stops: AtomicBool,
}

impl Bystander {
    /// Starts with a client that gets back what it sends.
    pub(crate) fn start(mut client: Client) -> Self {
        let shared = Arc::<Shared>::default();
        let its = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let (message, mut number) = ("twenty bytes of text", 0_u64);
            while !its.stops.load(Ordering::Relaxed) {
                let message = format!("{message}{number}");
                let sent = wait::now();
                client.send(&client::text(&message));
                assert_eq!(client.frame_but_ping().payload, message.as_bytes());
                let took = sent.elapsed();
                its.round_trips.lock().expect("no panic").push((sent, took));
                number += 1;
                wait::pause(INTERVAL.saturating_sub(took));
            }
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// The same on `tidewheel serve`, on a topic of its own.
    pub(crate) fn on_topic(server: &Server) -> Self {
        Self::start(crate::readers::join(server, "/bystander"))
    }

    /// The 99th percentile and the longest of the round trips that began since `since`.
    fn p99_since(&self, since: Instant) -> (Duration, Duration) {
        let round_trips = self.shared.round_trips.lock().expect("no panic");
        let since = round_trips.iter().filter(|(sent, _)| *sent >= since);
        let mut took: Vec<Duration> = since.map(|(_, took)| *took).collect();
        took.sort_unstable();
        let at = (took.len() * 99).div_ceil(100).saturating_sub(1);
        let longest = took.last().copied().unwrap_or(Duration::MAX);
        (took.get(at).copied().unwrap_or(Duration::MAX), longest)
    }

    /// Prints the 99th percentile since `since` beside its bound, and holds it to that.
    pub(crate) fn check_p99(
        &self,
        what: &str,
        since: Instant,
        bound: Duration,
    ) -> Result<(), String> {
        let (p99, longest) = self.p99_since(since);
        let delays = disturbance::p99_since(since);
        tell(&format!(
            "{what}: a bystander's p99 {p99:.1?} (bound {bound:?}, and {delays:.1?} for delays of the \
             machine), longest {longest:.1?}"
        ));
        match p99 <= bound + delays {
            true => Ok(()),
            false => Err(format!(
                "{what}: p99 {p99:?}; the bound is {bound:?}, and {delays:?}"
            )),
        }
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("each message came back");
            }
        }
    }
}
