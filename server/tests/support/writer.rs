//! A client's other hand: it writes while nobody reads.

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

/// A thread that writes `count` times what `bytes` gives, and how many of them it has.
#[derive(Debug)]
pub(crate) struct Writer {
    written: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts to write to `stream`.
    pub(crate) fn start(
        mut stream: TcpStream,
        count: u64,
        bytes: impl Fn(u64) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let written = Arc::new(AtomicU64::new(0));
        let progress = Arc::clone(&written);
        let thread = std::thread::spawn(move || {
            stream.set_write_timeout(None).expect("an option");
            for at in 0..count {
                stream.write_all(&bytes(at)).expect("the server reads on");
                progress.store(at + 1, Ordering::Relaxed);
            }
        });
        Self { written, thread }
    }

    /// Waits until it has written everything.
    pub(crate) fn join(self) {
        self.thread.join().expect("the server reads on");
    }

    /// Waits until the writer gets no further: the server does not read on.
    pub(crate) fn until_stalled(&self, server: &Server, client: &Client) {
        let mut before = (u64::MAX, 0);
        let mut looks = 0;
        wait::until(ms(20_000), "the server stops reading", || {
            let row = socket_table::held(server.port(), client.port());
            let now = (self.written.load(Ordering::Relaxed), row.unread);
            looks = if now == before && row.unread > 0 && row.unsent > 0 {
                looks + 1
            } else {
                0
            };
            before = now;
            looks >= 25
        });
    }
}

/// Message `at`: its number, and a length that changes.
pub(crate) fn message(at: u64) -> Vec<u8> {
    let mut payload = at.to_be_bytes().to_vec();
    payload.resize(8 + (at as usize * 7919) % 40_000, at as u8);
    payload
}
