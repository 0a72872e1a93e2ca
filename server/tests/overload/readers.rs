//! Thousands of subscribers that read without pause.

use std::{
    io::{ErrorKind, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use rustix::event::{Timespec, epoll};

use crate::support::{client::Client, process::Server};

/// Readers on one thread, stopped on drop.
pub(crate) struct Readers {
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    ended: AtomicU64,
    stops: AtomicBool,
}

impl Readers {
    /// Connects `count` readers to the topic at `path`.
    pub(crate) fn start(server: &Server, path: &str, count: usize) -> Self {
        let mut clients: Vec<Client> = (0..count)
            .map(|_| Client::open_path(server, path))
            .collect();
        let counts = Arc::<Counts>::default();
        let shared = Arc::clone(&counts);
        let thread = std::thread::spawn(move || read(&mut clients, &shared));
        Self {
            counts,
            thread: Some(thread),
        }
    }

    /// Returns the number of bytes that all readers have read.
    pub(crate) fn bytes(&self) -> u64 {
        self.counts.bytes.load(Ordering::Relaxed)
    }

    /// Returns the number of readers whose connection has ended.
    pub(crate) fn ended(&self) -> u64 {
        self.counts.ended.load(Ordering::Relaxed)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.counts.stops.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read(clients: &mut [Client], counts: &Counts) {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a descriptor is free");
    for (client, at) in clients.iter().zip(0..) {
        let set = client.stream.set_nonblocking(true);
        set.expect("O_NONBLOCK can be set");
        let data = epoll::EventData::new_u64(at);
        epoll::add(&poll, &client.stream, data, epoll::EventFlags::IN)
            .expect("a socket can be polled");
    }
    let mut events = Vec::with_capacity(1024);
    let mut chunk = vec![0; 256 << 10];
    let limit = Timespec {
        tv_sec: 0,
        tv_nsec: 50_000_000,
    };
    while !counts.stops.load(Ordering::Relaxed) {
        events.clear();
        let buffer = rustix::buffer::spare_capacity(&mut events);
        if let Err(error) = epoll::wait(&poll, buffer, Some(&limit)) {
            assert_eq!(error, rustix::io::Errno::INTR);
        }
        for event in &events {
            let client = &mut clients[event.data.u64() as usize];
            match client.stream.read(&mut chunk) {
                Ok(count @ 1..) => {
                    counts.bytes.fetch_add(count as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => {
                    counts.ended.fetch_add(1, Ordering::Relaxed);
                    epoll::delete(&poll, &client.stream).expect("the socket is polled");
                }
            }
        }
    }
}
