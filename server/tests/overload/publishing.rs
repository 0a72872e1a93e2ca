//! R25: clients publish more than the server can deliver.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    PROBE_INTERVAL, check_p99,
    memory::{MIB, Memory},
    readers::Readers,
    report,
    support::{
        client::{Client, binary},
        ms,
        prober::Prober,
        process::{Server, serve},
        raise_descriptor_limit, retry, turn, wait,
    },
};

/// Number of messages in one write of a flood.
const BATCH: usize = 256;

/// A client that publishes without pause, or at a rate, until it is dropped.
struct Publisher {
    published: Arc<AtomicU64>,
    stops: Arc<AtomicBool>,
    /// The connection, which is reset on drop, so that the kernel discards unread bytes.
    stream: TcpStream,
    thread: Option<JoinHandle<()>>,
}

impl Publisher {
    /// Publishes messages of `size` bytes to `path`, as fast as the server takes them.
    fn flood(server: &Server, path: &str, size: usize) -> Self {
        let mut client = Client::open_path(server, path);
        // Messages of other publishers have to be read.
        let mut reader = client.stream.try_clone().expect("a descriptor is free");
        std::thread::spawn(move || io::copy(&mut reader, &mut io::sink()));
        let batch = binary(&vec![7; size]).repeat(BATCH);
        let stream = client.stream.try_clone().expect("a descriptor is free");
        Self::start(stream, move |published| {
            client.stream.write_all(&batch)?;
            published.fetch_add(BATCH as u64, Ordering::Relaxed);
            Ok(())
        })
    }

    /// Publishes `rate` messages of `size` bytes a second; late messages at once.
    fn paced(server: &Server, path: &str, size: usize, rate: u32) -> Self {
        let mut client = Client::open_path(server, path);
        let message = binary(&vec![7; size]);
        let began = wait::now();
        let mut sent = 0;
        let stream = client.stream.try_clone().expect("a descriptor is free");
        Self::start(stream, move |published| {
            let due = Duration::from_secs(1) * sent / rate;
            wait::pause(due.saturating_sub(began.elapsed()));
            client.stream.write_all(&message)?;
            sent += 1;
            published.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }

    /// Publishes by HTTP, one request after the other; a 503 must have a `Retry-After`.
    fn http(server: &Server, topic: &str, size: usize) -> Self {
        let address = server.admin_address();
        let body = "x".repeat(size);
        let request = format!(
            "POST /publish/{topic} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret\r\n\
             Content-Type: text/plain\r\nContent-Length: {size}\r\n\r\n{body}"
        );
        let mut stream = TcpStream::connect(address).expect("the admin listener accepts");
        let second = stream.try_clone().expect("a descriptor is free");
        Self::start(second, move |published| {
            stream.write_all(request.as_bytes())?;
            let mut answer = Vec::new();
            let mut chunk = [0; 4096];
            while !answer.ends_with(b"\n") || !answer.windows(4).any(|it| it == b"\r\n\r\n") {
                let count = stream.read(&mut chunk)?;
                if count == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                answer.extend_from_slice(&chunk[..count]);
            }
            let answer = String::from_utf8_lossy(&answer);
            if answer.starts_with("HTTP/1.1 202") {
                published.fetch_add(1, Ordering::Relaxed);
            } else {
                assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
                assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
            }
            Ok(())
        })
    }

    fn start(
        stream: TcpStream,
        mut publish: impl FnMut(&AtomicU64) -> io::Result<()> + Send + 'static,
    ) -> Self {
        let (published, stops) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (count, stop) = (Arc::clone(&published), Arc::clone(&stops));
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Err(error) = publish(&count) {
                    assert!(stop.load(Ordering::Relaxed), "cannot publish: {error}");
                }
            }
        });
        Self {
            published,
            stops,
            stream,
            thread: Some(thread),
        }
    }

    fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::Relaxed);
        rustix::net::connect_unspec(&self.stream).expect("the TCP connection can be reset");
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the thread published until the end");
            }
        }
    }
}

/// A kind of overload.
struct Overload<'a> {
    name: &'a str,
    flags: &'a str,
    readers: usize,
    publish: fn(&Server) -> Publisher,
    /// Number of publishers.
    count: usize,
}

/// Bound of the 99th percentile of another client's round trips during the overload.
const P99_MAX: Duration = ms(50);

/// Memory in bytes on top of the budgets: memory that shards keep for reuse, and memory of the process.
const OVERHEAD_BYTES_MAX: u64 = 40 * MIB;

/// Runs an overload, and asserts R25.
#[track_caller]
fn assert_bounded(overload: &Overload<'_>) {
    let _turn = turn::take();
    raise_descriptor_limit();
    retry::until_ok(|| measure(overload));
}

fn measure(overload: &Overload<'_>) -> Result<(), String> {
    let server = Server::spawn(&mut serve(overload.flags));
    let readers = Readers::start(&server, "/flood", overload.readers);
    let prober = Prober::start(Client::open_path(&server, "/other"), PROBE_INTERVAL);
    wait::pause(ms(300));
    let mut memory = Memory::before(&server);
    report(&format!("{}:", overload.name));
    let began = wait::now();
    let publishers: Vec<Publisher> = (0..overload.count)
        .map(|_| (overload.publish)(&server))
        .collect();
    let published = || publishers.iter().map(Publisher::published).sum::<u64>();
    memory.watch(&server, crate::overload_duration(), || {
        format!(
            "{} KiB of published messages, {} published, {} MiB read, {} ended",
            server.metric("tidewheel_fanout_bytes", "") / 1024,
            published(),
            readers.bytes() / MIB,
            readers.ended()
        )
    });
    let during = check_p99(&prober, overload.name, began, P99_MAX);
    assert_eq!(readers.ended(), 0, "a reader was closed");
    memory.assert_growth(OVERHEAD_BYTES_MAX + 2 * 64 * MIB);
    drop(publishers);
    let stopped = wait::now();
    let took = wait::until(ms(30_000), "all published messages are delivered", || {
        let before = readers.bytes();
        wait::pause(ms(100));
        readers.bytes() == before
    });
    report(&format!("  delivered {took:.1?} after the overload"));
    assert_eq!(server.metric("tidewheel_fanout_bytes", ""), 0);
    // An unoptimised server takes longer than 5 s to deliver the messages that were sent before the stop.
    let is_optimised = std::env::var_os("TIDEWHEEL_PROGRAM").is_some();
    let since = if is_optimised { stopped } else { wait::now() };
    memory.assert_returned(&server, since, ms(5000));
    let after = wait::now();
    wait::pause(ms(500));
    let afterwards = check_p99(&prober, "  afterwards", after, ms(20));
    assert_eq!(readers.ended(), 0, "a reader was closed");
    during.and(afterwards)
}

#[test]
fn r25_memory_is_bounded_while_one_client_floods_1_000_subscribers() {
    assert_bounded(&Overload {
        name: "20 bytes to 1,000, two shards",
        flags: "--shards 2",
        readers: 1000,
        publish: |server| Publisher::flood(server, "/flood?echo=false", 20),
        count: 1,
    });
}

#[test]
fn r25_memory_is_bounded_while_ten_clients_flood_one_shard_with_large_messages() {
    assert_bounded(&Overload {
        name: "16 KiB to 500 by ten, one shard",
        flags: "--shards 1",
        readers: 500,
        publish: |server| Publisher::flood(server, "/flood?echo=false", 16 << 10),
        count: 10,
    });
}

#[test]
fn r25_memory_is_bounded_while_5_000_subscribers_cannot_keep_up() {
    for policy in ["close", "drop-oldest"] {
        for rate in [70, 500, 1500] {
            assert_bounded(&Overload {
                name: &format!("{rate}/s of 1 KiB to 5,000, {policy}"),
                flags: &format!("--shards 1 --slow-consumer {policy}"),
                readers: 5000,
                publish: match rate {
                    70 => |server| Publisher::paced(server, "/flood?echo=false", 1024, 70),
                    500 => |server| Publisher::paced(server, "/flood?echo=false", 1024, 500),
                    _ => |server| Publisher::paced(server, "/flood?echo=false", 1024, 1500),
                },
                count: 1,
            });
        }
    }
}

#[test]
fn r25_memory_is_bounded_while_http_publishes_more_than_can_be_delivered() {
    assert_bounded(&Overload {
        name: "64 KiB to 1,000 by HTTP, two shards",
        flags: "--shards 2 --publish-token secret",
        readers: 1000,
        publish: |server| Publisher::http(server, "flood", 64 << 10),
        count: 4,
    });
}
