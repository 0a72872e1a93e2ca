//! R24: a shard that fails takes no other with it, leaves no connection hanging, and is reported.

#[path = "support/mod.rs"]
mod support;

use std::{
    fs, io,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::{AsRawFd, BorrowedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tidewheel::{
    Cause, CloseCode, Config, Conn, ConnectionId, Disconnect, Error, Handler, Message, PanicPolicy,
    Remote, RemoteError, Request, Running, Server, Verdict,
};

use support::{client, client::End, ms, wait};

const CLIENTS: usize = 40;

/// Clients that come after a shard has failed.
const LATE_CLIENTS: usize = 20;

/// What the handlers have seen, by shard.
#[derive(Debug, Default)]
struct Seen {
    ids: Mutex<Vec<(u16, ConnectionId)>>,
    resets: [AtomicUsize; 2],
    shutdowns: [AtomicUsize; 2],
    others: [AtomicUsize; 2],
}

/// Says which shard it is, and panics when it is asked to.
struct Which {
    shard: u16,
    seen: Arc<Seen>,
}

impl Handler for Which {
    type State = ();

    fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
        Verdict::accept(())
    }

    fn open(&mut self, conn: &mut Conn<'_, ()>) {
        let mut ids = self.seen.ids.lock().expect("nobody panics with it");
        ids.push((self.shard, conn.id()));
        conn.subscribe("all").expect("it is a topic");
    }

    fn message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        assert_ne!(message.as_text(), Some("panic"), "asked to panic");
        let _ = conn.send(self.shard.to_string().as_str());
    }

    fn close(&mut self, _: &mut Conn<'_, ()>, end: &Disconnect) {
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
    /// Descriptors without use, so that those that are opened afterwards have rising numbers.
    plugs: Vec<fs::File>,
    address: SocketAddr,
    running: Running,
    seen: Arc<Seen>,
    /// The clients of each shard.
    clients: [Vec<client::Client>; 2],
    /// Given up last, when all descriptors are closed.
    turn: MutexGuard<'static, ()>,
}

/// One test breaks a ring of this process: they take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(address: SocketAddr) -> io::Result<client::Client> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(client::Client { stream })
}

/// The log of this process since the test began.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut log = LOG.lock().expect("nobody panics with it");
        log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins a log.
fn start_log() {
    LOG.lock().expect("nobody panics with it").clear();
    let log = tracing_subscriber::fmt().with_ansi(false);
    // It is there already if this is not the first test.
    let _ = log.with_writer(|| Log).try_init();
}

/// The drain is one line of the log, with so many connections at least, and the reason.
fn assert_one_drain(connections_min: usize, reason: &str) {
    let log = LOG.lock().expect("nobody panics with it").clone();
    let log = String::from_utf8(log).expect("it is text");
    let lines: Vec<&str> = log.lines().filter(|it| it.contains("draining")).collect();
    let [line] = lines[..] else {
        panic!("one line in:\n{log}");
    };
    let (_, told) = line.split_once("connections=").expect("their number");
    let (connections, told) = told.split_once(' ').expect("a reason");
    let connections: usize = connections.parse().expect("a number");
    // Those that come after the failure may be among them.
    let range = connections_min..=connections_min + LATE_CLIENTS;
    assert!(range.contains(&connections), "{range:?}: {line}");
    assert!(told.starts_with(&format!("reason={reason}")), "{line}");
}

impl Bench {
    fn start() -> Self {
        let turn = turn();
        start_log();
        let plug = |_| fs::File::open("/dev/null").expect("Linux");
        let plugs = (0..256).map(plug).collect();
        let config = Config {
            shards: Some(2),
            panic: PanicPolicy::StopServer,
            close_timeout: Duration::from_secs(3),
            max_connections_per_address: Some(1000),
            ..Config::default()
        };
        let server = Server::bind("127.0.0.1:0", config).expect("a free port");
        let address = server.address();
        let seen = Arc::<Seen>::default();
        let its = Arc::clone(&seen);
        let running = server
            .start(move |shard| Which {
                shard,
                seen: Arc::clone(&its),
            })
            .expect("there is io_uring");
        let mut clients = [Vec::new(), Vec::new()];
        for _ in 0..CLIENTS {
            let mut client = connect(address).expect("it accepts");
            client.send(client::REQUEST.as_bytes());
            client.accept();
            client.send(&client::text("which?"));
            let shard = client.frame().payload;
            clients[usize::from(shard == b"1")].push(client);
        }
        assert!(clients.iter().all(|it| it.len() >= 5), "both have some");
        Self {
            plugs,
            address,
            running,
            seen,
            clients,
            turn,
        }
    }
}

fn id_on(seen: &Seen, shard: u16) -> ConnectionId {
    let ids = seen.ids.lock().expect("nobody panics with it");
    ids.iter().find(|(its, _)| *its == shard).expect("one").1
}

/// The clients of shard 0 are reset, those of shard 1 are told 1012, and nobody hangs.
fn assert_contained(
    address: SocketAddr,
    [failed, others]: [Vec<client::Client>; 2],
    remote: &Remote,
    ids: [ConnectionId; 2],
) {
    let began = wait::now();
    for mut client in failed {
        let mut rest = [0; 64];
        // What was queued before may come.
        let end = loop {
            match client.stream.read(&mut rest) {
                Ok(0) => break End::Fin,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break End::Reset,
                Err(error) => panic!("it ends, but: {error}"),
            }
        };
        assert_eq!(end, End::Reset);
    }
    wait::assert_within(began, ms(1000), "the clients of the failed shard are reset");
    // Whoever comes now is served, told, refused or reset; the read timeout makes a hang a failure.
    for _ in 0..LATE_CLIENTS {
        let Ok(mut client) = connect(address) else {
            continue;
        };
        if client.stream.write_all(client::REQUEST.as_bytes()).is_ok() {
            let answer = client.stream.read(&mut [0; 512]);
            let error =
                answer.map_or_else(|error| error.kind(), |_| io::ErrorKind::ConnectionReset);
            assert_eq!(error, io::ErrorKind::ConnectionReset);
        }
    }
    assert_eq!(remote.send(ids[0], "anybody?"), Err(RemoteError::Gone));
    let code = CloseCode::NORMAL_CLOSURE;
    assert_eq!(remote.close(ids[0], code, ""), Err(RemoteError::Gone));
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
fn r24_a_shard_that_panics() {
    let mut bench = Bench::start();
    let remote = bench.running.remote();
    assert_eq!(remote.publish("all", "hello"), Ok(()));
    let ids = [0, 1].map(|shard| id_on(&bench.seen, shard));
    bench.clients[0][0].send(&client::text("panic"));
    let others = bench.clients[1].len();
    assert_contained(bench.address, bench.clients, &remote, ids);
    let error = bench.running.join().expect_err("a shard has failed");
    assert_one_drain(others, "shard 0 has panicked at ");
    let Error::Panicked {
        shard,
        message,
        location,
    } = &error
    else {
        panic!("it has panicked, not {error}");
    };
    assert_eq!(*shard, 0);
    assert!(message.contains("asked to panic"), "{message}");
    assert!(location.contains("failure.rs:"), "{location}");
    assert_eq!(remote.publish("all", "hello"), Err(RemoteError::Gone));
}

#[test]
fn r18_stop_resets_everybody_and_close_is_called_for_each() {
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

/// Puts another file in the place of the ring of shard 0, the first that was opened above a descriptor,
/// so that the kernel refuses to enter it.
fn break_ring(above: i32) {
    let rings = fs::read_dir("/proc/self/fd").expect("Linux").flatten();
    let rings = rings.filter(|entry| {
        let target = fs::read_link(entry.path());
        target.is_ok_and(|it| it.to_string_lossy() == "anon_inode:[io_uring]")
    });
    let rings = rings.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    // The control plane has none here, and the first shard was made first.
    let ring = rings
        .filter(|ring| *ring > above)
        .min()
        .expect("there are rings");
    let other = fs::File::open("/dev/null").expect("Linux");
    // SAFETY: the descriptor is open; that it stands for another file from now on is what is tested.
    let result = unsafe { libc::dup2(other.as_raw_fd(), ring) };
    assert_eq!(result, ring);
    // SAFETY: as above.
    let ring = unsafe { BorrowedFd::borrow_raw(ring) };
    assert!(ring.as_raw_fd() >= 0);
}

#[test]
fn r24_a_shard_whose_ring_fails() {
    let bench = Bench::start();
    let (_turn, plugs, address) = (bench.turn, bench.plugs, bench.address);
    let above = plugs.iter().map(AsRawFd::as_raw_fd).max().expect("some");
    let remote = bench.running.remote();
    let ids = [0, 1].map(|shard| id_on(&bench.seen, shard));
    break_ring(above);
    // It waits in the old one until it is woken.
    let _ = remote.send(ids[0], "wake up");
    let clients = bench.clients.each_ref().map(Vec::len);
    assert_contained(address, bench.clients, &remote, ids);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let error = runtime
        .block_on(bench.running.wait())
        .expect_err("a shard has failed");
    assert!(matches!(error, Error::Failed { shard: 0, .. }), "{error}");
    assert_one_drain(clients[1], "shard 0 has failed: ");
    let resets = count(&bench.seen.resets);
    assert_eq!(resets[0], clients[0], "`close` is called for each");
    assert!(count(&bench.seen.shutdowns)[1] >= clients[1]);
    assert_eq!(remote.publish("all", "hello"), Err(RemoteError::Gone));
}

#[test]
fn a_server_that_drains_ends_without_a_signal() {
    let bench = Bench::start();
    let remote = bench.running.remote();
    remote.drain();
    for mut client in bench.clients.into_iter().flatten() {
        assert_eq!(client.frame().close_code(), 1001);
        client.send(&client::close(1001, ""));
        assert_eq!(client.end(), End::Fin);
    }
    assert!(bench.running.join().is_ok());
    assert_eq!(remote.publish("all", "hello"), Err(RemoteError::Gone));
}

#[test]
fn readiness_ends_with_a_drain_without_a_signal() {
    let _turn = turn();
    let config = Config {
        shards: Some(1),
        ..Config::default()
    };
    let server = Server::bind("127.0.0.1:0", config)
        .and_then(|server| server.with_admin("127.0.0.1:0", None))
        .expect("free ports");
    let (address, admin) = (server.address(), server.admin_address().expect("one"));
    let running = server.start(|shard| Which {
        shard,
        seen: Arc::default(),
    });
    let running = running.expect("there is io_uring");
    let remote = running.remote();
    let served = std::thread::spawn(|| running.until_signal());
    assert!(support::process::get(admin, "/readyz").starts_with("HTTP/1.1 200 "));
    // It holds up the drain until it answers.
    let mut client = connect(address).expect("it accepts");
    client.send(client::REQUEST.as_bytes());
    client.accept();
    remote.drain();
    assert_eq!(client.frame().close_code(), 1001);
    let answer = support::process::get(admin, "/readyz");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("draining\n"), "{answer}");
    let metrics = support::process::get(admin, "/metrics");
    assert!(metrics.contains("\ntidewheel_draining 1\n"), "{metrics}");
    client.send(&client::close(1001, ""));
    assert_eq!(client.end(), End::Fin);
    drop(client);
    assert!(served.join().expect("no panic").is_ok());
}
