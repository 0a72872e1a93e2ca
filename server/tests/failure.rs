//! R24: a shard that fails ends no other shard, leaves no connection open, and is reported.

#[path = "support/mod.rs"]
mod support;

use std::{
    fs, io,
    io::{Read, Write},
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tidewheel::{
    Cause, CloseCode, Conn, ConnectionId, Disconnect, Error, Handler, Message, PanicPolicy,
    Publisher, RemoteError, Request, Running, Server, Verdict,
};

use support::{client, client::End, ms, turn, wait};

const CLIENTS: usize = 40;

/// Longer than a client takes to answer a Close.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Number of clients that connect after a shard has failed.
const LATE_CLIENTS: usize = 20;

/// Connections and ends that the handlers record, by shard.
#[derive(Debug, Default)]
struct Seen {
    ids: Mutex<Vec<(u16, ConnectionId)>>,
    resets: [AtomicUsize; 2],
    shutdowns: [AtomicUsize; 2],
    others: [AtomicUsize; 2],
}

/// A handler that answers with the number of its shard, and panics on the message `panic`.
struct ShardNumber {
    shard: u16,
    seen: Arc<Seen>,
}

impl Handler for ShardNumber {
    type State = ();

    fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
        Verdict::accept(())
    }

    fn open(&mut self, conn: &mut Conn<'_, Self>) {
        let mut ids = self.seen.ids.lock().expect("the lock is not poisoned");
        ids.push((self.shard, conn.id()));
        conn.subscribe("all").expect("the topic is valid");
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        assert_ne!(message.as_text(), Some("panic"), "requested panic");
        conn.send(self.shard.to_string());
    }

    fn close(&mut self, _: &mut Conn<'_, Self>, end: &Disconnect) {
        let counts = match end.cause {
            Cause::Reset => &self.seen.resets,
            Cause::Shutdown => &self.seen.shutdowns,
            _ => &self.seen.others,
        };
        counts[usize::from(self.shard)].fetch_add(1, Ordering::Relaxed);
    }
}

fn count(counts: &[AtomicUsize; 2]) -> [usize; 2] {
    counts.each_ref().map(|it| it.load(Ordering::Relaxed))
}

struct Bench {
    /// Descriptors that fill the gaps of the table, so that later descriptors have rising numbers.
    fillers: Vec<fs::File>,
    address: SocketAddr,
    running: Running,
    seen: Arc<Seen>,
    /// The clients of each shard.
    clients: [Vec<client::Client>; 2],
    /// Dropped last, after all descriptors: one test breaks a ring of this process.
    turn: MutexGuard<'static, ()>,
}

/// The log of this process since the test began.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut log = LOG.lock().expect("the lock is not poisoned");
        log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Clears the log, and installs it for this process.
fn start_log() {
    LOG.lock().expect("the lock is not poisoned").clear();
    let log = tracing_subscriber::fmt().with_ansi(false);
    // Fails if an earlier test has installed it.
    let _ = log.with_writer(|| Log).try_init();
}

/// Asserts that the log has one line about the drain, with at least `connections_min` connections and the reason.
fn assert_one_drain(connections_min: usize, reason: &str) {
    let log = LOG.lock().expect("the lock is not poisoned").clone();
    let log = String::from_utf8(log).expect("the log is UTF-8");
    let lines: Vec<&str> = log.lines().filter(|it| it.contains("draining")).collect();
    let [line] = lines[..] else {
        panic!("expected one drain in:\n{log}");
    };
    let (_, rest) = line
        .split_once("connections=")
        .expect("a number of connections");
    let (connections, reason_field) = rest.split_once(' ').expect("a reason");
    let connections: usize = connections.parse().expect("a number");
    // Clients that connect after the failure may be included.
    let range = connections_min..=connections_min + LATE_CLIENTS;
    assert!(range.contains(&connections), "{range:?}: {line}");
    assert!(
        reason_field.starts_with(&format!("reason={reason}")),
        "{line}"
    );
}

impl Bench {
    fn start() -> Self {
        let turn = turn::take();
        start_log();
        let filler = |_| fs::File::open("/dev/null").expect("/proc and /dev are mounted");
        let fillers = (0..256).map(filler).collect();
        let server = Server::builder()
            .listen("127.0.0.1:0")
            .configure(|config| {
                config.shards = Some(2);
                config.panic = PanicPolicy::StopServer;
                config.close_timeout = Duration::from_secs(3);
                config.max_connections_per_address = Some(1000);
            })
            .bind()
            .expect("a free port");
        let address = server.address();
        let seen = Arc::<Seen>::default();
        let in_handler = Arc::clone(&seen);
        let running = server
            .start(move |shard| {
                Ok(ShardNumber {
                    shard: shard.index(),
                    seen: in_handler,
                })
            })
            .expect("io_uring is available");
        let mut clients = [Vec::new(), Vec::new()];
        for _ in 0..CLIENTS {
            let mut client =
                client::Client::connect_to(address).expect("the server accepts a connection");
            client.send(client::REQUEST.as_bytes());
            client.accept();
            client.send(&client::text("shard"));
            let shard = client.frame().payload;
            clients[usize::from(shard == b"1")].push(client);
        }
        assert!(
            clients.iter().all(|it| it.len() >= 5),
            "a shard has fewer than 5 connections"
        );
        Self {
            fillers,
            address,
            running,
            seen,
            clients,
            turn,
        }
    }
}

fn id_on(seen: &Seen, shard: u16) -> ConnectionId {
    let ids = seen.ids.lock().expect("the lock is not poisoned");
    let on_shard = ids.iter().find(|(number, _)| *number == shard);
    on_shard.expect("a connection on the shard").1
}

/// Asserts that the clients of shard 0 are reset, that those of shard 1 get 1012, and that late clients get an
/// end.
fn assert_contained(
    address: SocketAddr,
    [failed, others]: [Vec<client::Client>; 2],
    publisher: &Publisher,
    ids: [ConnectionId; 2],
) {
    let began = wait::now();
    for mut client in failed {
        let mut rest = [0; 64];
        // Frames that were queued before the failure may come.
        let end = loop {
            match client.stream.read(&mut rest) {
                Ok(0) => break End::Fin,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break End::Reset,
                Err(error) => panic!("expected FIN or RST, got: {error}"),
            }
        };
        assert_eq!(end, End::Reset);
    }
    wait::assert_within(began, ms(1000), "the resets of the failed shard's clients");
    // Late clients are served, closed, refused or reset; a timeout is a failure.
    for _ in 0..LATE_CLIENTS {
        let Ok(mut client) = client::Client::connect_to(address) else {
            continue;
        };
        if client.stream.write_all(client::REQUEST.as_bytes()).is_ok() {
            let answer = client.stream.read(&mut [0; 512]);
            let error =
                answer.map_or_else(|error| error.kind(), |_| io::ErrorKind::ConnectionReset);
            assert_eq!(error, io::ErrorKind::ConnectionReset);
        }
    }
    assert_eq!(publisher.send(ids[0], "hello"), Err(RemoteError::Gone));
    let code = CloseCode::NORMAL_CLOSURE;
    assert_eq!(publisher.close(ids[0], code, ""), Err(RemoteError::Gone));
    for mut client in others {
        let close = loop {
            let frame = client.frame();
            if frame.first == client::CLOSE {
                break frame;
            }
        };
        assert_eq!(close.close_code(), 1012);
        client.send(&client::close(1012, ""));
        assert_eq!(client.end(), End::Fin);
    }
}

#[test]
fn r24_a_shard_that_panics_is_reported_and_the_other_shard_drains() {
    let mut bench = Bench::start();
    let publisher = bench.running.publisher();
    assert_eq!(publisher.publish("all", "hello"), Ok(()));
    let ids = [0, 1].map(|shard| id_on(&bench.seen, shard));
    bench.clients[0][0].send(&client::text("panic"));
    let others = bench.clients[1].len();
    assert_contained(bench.address, bench.clients, &publisher, ids);
    let error = bench
        .running
        .join()
        .expect_err("the failure of a shard is an error");
    assert_one_drain(others, "shard 0 has panicked at ");
    let Error::Panicked {
        shard,
        message,
        location,
    } = &error
    else {
        panic!("expected a panic, got: {error}");
    };
    assert_eq!(*shard, 0);
    assert!(message.contains("requested panic"), "{message}");
    assert!(location.contains("failure.rs:"), "{location}");
    assert_eq!(publisher.publish("all", "hello"), Err(RemoteError::Gone));
}

#[test]
fn r18_stop_resets_all_connections_and_calls_close_for_each() {
    let mut bench = Bench::start();
    let clients = bench.clients.each_ref().map(Vec::len);
    bench.running.stop();
    assert_eq!(count(&bench.seen.shutdowns), clients);
    assert_eq!(count(&bench.seen.resets), [0, 0]);
    assert_eq!(count(&bench.seen.others), [0, 0]);
    for mut client in bench.clients.into_iter().flatten() {
        assert_eq!(client.end(), End::Reset);
    }
}

/// Replaces the ring of shard 0, the second ring with a descriptor above `above`, by another file, so that
/// io_uring_enter(2) fails.
fn break_ring(above: i32) {
    let rings = fs::read_dir("/proc/self/fd")
        .expect("/proc and /dev are mounted")
        .flatten();
    let rings = rings.filter(|entry| {
        let target = fs::read_link(entry.path());
        target.is_ok_and(|it| it.to_string_lossy() == "anon_inode:[io_uring]")
    });
    let rings = rings.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    // Shard 0 is started first. Its thread creates the ring of its runtime, and then that of the shard.
    let mut rings: Vec<i32> = rings.filter(|ring| *ring > above).collect();
    rings.sort_unstable();
    let ring = rings[1];
    let other = fs::File::open("/dev/null").expect("/proc and /dev are mounted");
    // SAFETY: both descriptors are open; the test requires that the ring's descriptor refers to another file.
    let result = unsafe { libc::dup2(other.as_raw_fd(), ring) };
    assert_eq!(result, ring);
    // SAFETY: dup2(2) has left the descriptor open.
    let ring = unsafe { BorrowedFd::borrow_raw(ring) };
    assert!(ring.as_raw_fd() >= 0);
}

#[test]
fn r24_a_shard_whose_ring_fails_is_reported_and_the_other_shard_drains() {
    let bench = Bench::start();
    let (_turn, fillers, address) = (bench.turn, bench.fillers, bench.address);
    let above = fillers
        .iter()
        .map(AsRawFd::as_raw_fd)
        .max()
        .expect("at least one");
    let publisher = bench.running.publisher();
    let ids = [0, 1].map(|shard| id_on(&bench.seen, shard));
    break_ring(above);
    // The shard waits in the old ring until it is woken.
    let _ = publisher.send(ids[0], "wake up");
    let clients = bench.clients.each_ref().map(Vec::len);
    assert_contained(address, bench.clients, &publisher, ids);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let error = runtime
        .block_on(bench.running.wait())
        .expect_err("the failure of a shard is an error");
    assert!(matches!(error, Error::Failed { shard: 0, .. }), "{error}");
    assert_one_drain(clients[1], "shard 0 has failed: ");
    let resets = count(&bench.seen.resets);
    assert_eq!(
        resets[0], clients[0],
        "calls of `close` on the failed shard"
    );
    assert!(count(&bench.seen.shutdowns)[1] >= clients[1]);
    assert_eq!(publisher.publish("all", "hello"), Err(RemoteError::Gone));
}

#[test]
fn a_drain_without_a_signal_ends_the_server() {
    let bench = Bench::start();
    let publisher = bench.running.publisher();
    publisher.drain(DRAIN_TIMEOUT);
    for mut client in bench.clients.into_iter().flatten() {
        assert_eq!(client.frame().close_code(), 1001);
        client.send(&client::close(1001, ""));
        assert_eq!(client.end(), End::Fin);
    }
    assert!(bench.running.join().is_ok());
    assert_eq!(publisher.publish("all", "hello"), Err(RemoteError::Gone));
}

#[test]
fn readyz_is_503_during_a_drain_without_a_signal() {
    let _turn = turn::take();
    let server = Server::builder()
        .listen("127.0.0.1:0")
        .admin("127.0.0.1:0")
        .configure(|config| config.shards = Some(1))
        .bind()
        .expect("free ports");
    let (address, admin) = (
        server.address(),
        server.admin_address().expect("an admin listener"),
    );
    let running = server.start(|shard| {
        Ok(ShardNumber {
            shard: shard.index(),
            seen: Arc::default(),
        })
    });
    let running = running.expect("io_uring is available");
    let publisher = running.publisher();
    let served = std::thread::spawn(|| running.join());
    assert!(support::process::get(admin, "/readyz").starts_with("HTTP/1.1 200 "));
    // The drain lasts until this client answers the Close.
    let mut client = client::Client::connect_to(address).expect("the server accepts a connection");
    client.send(client::REQUEST.as_bytes());
    client.accept();
    publisher.drain(DRAIN_TIMEOUT);
    assert_eq!(client.frame().close_code(), 1001);
    let answer = support::process::get(admin, "/readyz");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("draining\n"), "{answer}");
    let metrics = support::process::get(admin, "/metrics");
    assert!(metrics.contains("\ntidewheel_draining 1\n"), "{metrics}");
    client.send(&client::close(1001, ""));
    assert_eq!(client.end(), End::Fin);
    drop(client);
    assert!(served.join().expect("the thread does not panic").is_ok());
}
