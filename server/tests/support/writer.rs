//! A thread that writes to a connection while the test does not read from it.

use std::{
    io::Write as _,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use super::{client::Client, ms, process::Server, socket_table, wait};

/// A writing thread, and its progress.
#[derive(Debug)]
pub(crate) struct Writer {
    /// Number of writes that are complete.
    written: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts a thread that writes `bytes(0)` to `bytes(count - 1)` to `stream`.
    pub(crate) fn start(
        mut stream: TcpStream,
        count: u64,
        bytes: impl Fn(u64) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let written = Arc::new(AtomicU64::new(0));
        let progress = Arc::clone(&written);
        let thread = std::thread::spawn(move || {
            stream
                .set_write_timeout(None)
                .expect("the timeout is valid");
            for at in 0..count {
                stream.write_all(&bytes(at)).expect("the server reads");
                progress.store(at + 1, Ordering::Relaxed);
            }
        });
        Self { written, thread }
    }

    /// Waits until everything is written.
    pub(crate) fn join(self) {
        self.thread.join().expect("all bytes were written");
    }

    /// Waits until the server has stopped reading: 25 polls in a row show no progress.
    pub(crate) fn until_stalled(&self, server: &Server, client: &Client) {
        let mut before = (u64::MAX, 0);
        let mut polls = 0;
        wait::until(ms(20_000), "the server stops reading", || {
            let row = socket_table::socket(server.port(), client.port());
            let now = (self.written.load(Ordering::Relaxed), row.unread);
            polls = if now == before && row.unread > 0 && row.unsent > 0 {
                polls + 1
            } else {
                0
            };
            before = now;
            polls >= 25
        });
    }
}

/// Returns the payload of message `at`: its number, padded to a length that varies up to 40 KB.
pub(crate) fn message(at: u64) -> Vec<u8> {
    let mut payload = at.to_be_bytes().to_vec();
    payload.resize(8 + (at as usize * 7919) % 40_000, at as u8);
    payload
}
