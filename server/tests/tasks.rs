//! Tasks of an application, and closures of other threads, on the threads of the shards.

#[path = "support/mod.rs"]
mod support;

use std::{
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tidewheel::{
    Config, Conn, ConnectionId, Cookie, Disconnect, Handler, Message, Remote, RemoteError, Request,
    Response, Running, Server, Verdict,
};
use tokio::sync::Semaphore;

use support::{
    client::{self, CLOSE, Client, FIN, TEXT},
    ms, wait,
};

/// The state that the handlers of all shards share with a test.
#[derive(Default)]
struct Shared {
    /// Tasks of the messages `gate` and `ordered` wait for a permit.
    gates: HashMap<&'static str, Semaphore>,
    running: AtomicUsize,
    most_running: AtomicUsize,
    /// Number of tasks that were dropped or have finished.
    dropped: AtomicUsize,
    /// Number of tasks of the messages `gate` and `ordered` that have finished.
    finished: AtomicUsize,
    /// The ids of open connections, by the paths of their requests.
    ids: Mutex<HashMap<String, ConnectionId>>,
}

impl Shared {
    /// Waits until the test allows one more to pass a gate.
    async fn pass(&self, gate: &str) {
        let permit = self.gates[gate].acquire().await;
        permit.expect("the gate is not closed").forget();
    }
}

/// Counts a running task.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: &Arc<Shared>) -> Self {
        let running = shared.running.fetch_add(1, Ordering::Relaxed) + 1;
        shared.most_running.fetch_max(running, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// A handler that starts a task for each message. A message is a word and an argument.
struct Tasks {
    shared: Arc<Shared>,
    /// Number of outputs that this shard has handled.
    outputs: usize,
}

impl Handler for Tasks {
    /// The path of the request.
    type State = String;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<String> {
        let path = request.path().to_owned();
        if !path.starts_with("/later/") {
            return Verdict::accept(path);
        }
        let (shared, counted) = (Arc::clone(&self.shared), Counted::new(&self.shared));
        let verdict = async move {
            shared.pass("a").await;
            drop(counted);
            match path.as_str() {
                "/later/refused" => Verdict::reject(Response::json(401, r#"{"error":"token"}"#)),
                "/later/panic" => panic!("in a verdict"),
                "/later/again" => {
                    let state = Verdict::later(async { Verdict::accept(path) });
                    state.header("X-Inner", "1")
                }
                _ => Verdict::accept(path).cookie(&Cookie::new("seen", "1")),
            }
        };
        Verdict::later(verdict).header("X-Outer", "1")
    }

    fn http(&mut self, request: &Request<'_>) -> Response {
        let (shared, path) = (Arc::clone(&self.shared), request.path().to_owned());
        Response::later(async move {
            shared.pass("a").await;
            assert_ne!(path, "/panic");
            Response::text(200, path)
        })
    }

    fn open(&mut self, conn: &mut Conn<'_, Self>) {
        let (path, link) = conn.split();
        let mut ids = self.shared.ids.lock().expect("the lock is not poisoned");
        ids.insert(path.clone(), link.id());
    }

    /// Starts work if the connection's path is `/last`.
    fn close(&mut self, conn: &mut Conn<'_, Self>, _: &Disconnect) {
        if conn.state() == "/last" {
            let (shared, counted) = (Arc::clone(&self.shared), Counted::new(&self.shared));
            let task = async move {
                shared.pass("a").await;
                shared.finished.fetch_add(1, Ordering::Relaxed);
                drop(counted);
            };
            conn.spawn(task, |app, _, ()| app.outputs += 1);
        }
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        let text = message.as_text().unwrap_or_default().to_owned();
        let shared = Arc::clone(&self.shared);
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("gate", gate) => {
                let (gate, counted) = (gate.to_owned(), Counted::new(&shared));
                let task = async move {
                    shared.pass(&gate).await;
                    shared.finished.fetch_add(1, Ordering::Relaxed);
                    drop(counted);
                    gate
                };
                conn.spawn(task, |app, conn, gate| {
                    app.outputs += 1;
                    conn.send(gate);
                });
            }
            ("ordered", gate) => {
                let (gate, counted) = (gate.to_owned(), Counted::new(&shared));
                let task = async move {
                    shared.pass(&gate).await;
                    shared.finished.fetch_add(1, Ordering::Relaxed);
                    drop(counted);
                    gate
                };
                conn.spawn_in_order(task, |_, conn, gate| {
                    conn.send(gate);
                });
            }
            // A file by tokio-uring, a timer of tokio, and a value that is not `Send`.
            ("file", path) => {
                let path = Rc::new(path.to_owned());
                let task = async move {
                    tokio::time::sleep(ms(1)).await;
                    let file = tokio_uring::fs::File::open(&*path).await?;
                    let (read, bytes) = file.read_at(Vec::with_capacity(100), 0).await;
                    read.map(|_| bytes)
                };
                conn.spawn(task, |_, conn, bytes| {
                    conn.send(bytes.expect("the file is readable"));
                });
            }
            ("panic", "future") => conn.spawn(async { panic!("in a future") }, |_, _, ()| ()),
            ("panic", _) => conn.spawn(async {}, |_, _, ()| panic!("behind a future")),
            ("close", _) => {
                conn.spawn(async {}, |_, conn, ()| {
                    conn.close(tidewheel::CloseCode::NORMAL_CLOSURE, "done")
                        .expect("a valid reason");
                });
            }
            _ => {
                conn.send(message);
            }
        }
    }
}

struct Bench {
    address: SocketAddr,
    shared: Arc<Shared>,
    running: Running,
}

impl Bench {
    fn start(change: impl FnOnce(&mut Config)) -> Self {
        let server = Server::builder()
            .listen("127.0.0.1:0")
            .configure(|config| config.shards = Some(2))
            .configure(change)
            .bind()
            .expect("a free port");
        let address = server.address();
        let shared = Arc::new(Shared {
            gates: ["a", "b", "c"].map(|gate| (gate, Semaphore::new(0))).into(),
            ..Shared::default()
        });
        let in_handler = Arc::clone(&shared);
        let running = server.start(move |_| {
            Ok(Tasks {
                shared: Arc::clone(&in_handler),
                outputs: 0,
            })
        });
        Self {
            address,
            shared,
            running: running.expect("io_uring is available"),
        }
    }

    /// Connects, and sends a request for `path`.
    fn request(&self, path: &str) -> Client {
        let mut client = Client::connect_to(self.address).expect("the server accepts");
        client.send_request(path);
        client
    }

    fn open(&self, path: &str) -> Client {
        let mut client = self.request(path);
        client.accept();
        client
    }

    /// Opens connections until two are on different shards.
    fn open_on_two_shards(&self) -> [(Client, ConnectionId); 2] {
        let mut first = None;
        for number in 0.. {
            let path = format!("/{number}");
            let mut client = self.open(&path);
            say(&mut client, "hello");
            let id = self.shared.ids.lock().expect("the lock is not poisoned")[&path];
            match first.take() {
                None => first = Some((client, id)),
                Some((other, its_id)) if is_on_other_shard(id, its_id) => {
                    return [(other, its_id), (client, id)];
                }
                Some(same) => first = Some(same),
            }
        }
        unreachable!("the kernel distributes connections over both shards")
    }

    fn allow(&self, gate: &str) {
        self.shared.gates[gate].add_permits(1);
    }

    fn wait_for_no_connections(&self) {
        wait::until(ms(10_000), "the end of all connections", || {
            self.running.publisher().snapshot().total().connections == 0
        });
    }

    fn wait_for(&self, what: &str, met: impl Fn(&Shared) -> bool) {
        wait::until(ms(10_000), what, || met(&self.shared));
    }
}

/// Returns whether two ids, which begin with the number of the shard, are of different shards.
fn is_on_other_shard(one: ConnectionId, other: ConnectionId) -> bool {
    let shard = |id: ConnectionId| id.to_string().split('-').next().map(str::to_owned);
    shard(one) != shard(other)
}

/// Sends a text message that is echoed.
fn say(client: &mut Client, text: &str) {
    client.send(&client::text(text));
    client.expect(FIN | TEXT, text);
}

/// Ends a connection by a closing handshake.
fn close(mut client: Client) {
    client.send(&client::close(1000, ""));
    assert_eq!(client.frame().close_code(), 1000);
    client.finish();
}

fn ask(client: &mut Client, text: &str) {
    client.send(&client::text(text));
}

#[test]
fn outputs_arrive_as_the_tasks_finish() {
    let bench = Bench::start(|_| ());
    let mut client = bench.open("/");
    for text in ["gate a", "gate b", "gate c"] {
        ask(&mut client, text);
    }
    // Other messages are read meanwhile.
    say(&mut client, "hello");
    for gate in ["b", "c", "a"] {
        bench.allow(gate);
        client.expect(FIN | TEXT, gate);
    }
}

#[test]
fn outputs_in_order_arrive_in_the_order_of_the_messages() {
    let bench = Bench::start(|_| ());
    let mut client = bench.open("/");
    for text in ["ordered a", "ordered b", "ordered c", "gate c"] {
        ask(&mut client, text);
    }
    // A task outside of the order does not wait for it.
    bench.allow("c");
    client.expect(FIN | TEXT, "c");
    for gate in ["c", "b", "a"] {
        bench.allow(gate);
    }
    for gate in ["a", "b", "c"] {
        client.expect(FIN | TEXT, gate);
    }
}

#[test]
fn a_task_uses_tokio_and_tokio_uring_and_need_not_be_send() {
    let bench = Bench::start(|_| ());
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "from a file").expect("the file is writable");
    let mut client = bench.open("/");
    for _ in 0..10 {
        ask(&mut client, &format!("file {}", file.path().display()));
        client.expect(FIN | client::BINARY, "from a file");
    }
}

#[test]
fn tasks_of_a_busy_server_make_progress() {
    let bench = Bench::start(|_| ());
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "from a file").expect("the file is writable");
    let [(mut one, _), (mut other, _)] = bench.open_on_two_shards();
    let (address, is_done) = (bench.address, AtomicBool::new(false));
    let is_done = &is_done;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(move || {
                let mut client = Client::connect_to(address).expect("the server accepts");
                client.send_request("/busy");
                client.accept();
                while !is_done.load(Ordering::Relaxed) {
                    say(&mut client, "hello");
                }
            });
        }
        for client in [&mut one, &mut other] {
            for _ in 0..20 {
                ask(client, &format!("file {}", file.path().display()));
                client.expect(FIN | client::BINARY, "from a file");
            }
        }
        is_done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_panic_of_a_task_or_behind_it_ends_its_connection_only() {
    let bench = Bench::start(|_| ());
    let mut other = bench.open("/other");
    for text in ["panic future", "panic then"] {
        let mut client = bench.open("/");
        ask(&mut client, text);
        let close = client.frame();
        assert_eq!((close.first, close.close_code()), (CLOSE, 1011), "{text}");
        say(&mut other, "hello");
    }
}

#[test]
fn the_closure_behind_a_task_closes_its_connection() {
    let bench = Bench::start(|_| ());
    let mut client = bench.open("/");
    ask(&mut client, "close");
    assert_eq!(client.frame().close_code(), 1000);
}

#[test]
fn work_goes_on_when_its_client_has_gone() {
    for ends in [close, Client::reset] {
        let bench = Bench::start(|config| config.shards = Some(1));
        let mut client = bench.open("/");
        for text in ["gate a", "gate b", "ordered a", "ordered b"] {
            ask(&mut client, text);
        }
        say(&mut client, "hello");
        ends(client);
        bench.wait_for_no_connections();
        // The next connection in the slot gets no output of the work.
        let mut next = bench.open("/");
        for gate in ["a", "a", "b", "b"] {
            bench.allow(gate);
        }
        bench.wait_for("the end of the work", |it| {
            it.finished.load(Ordering::Relaxed) == 4
        });
        say(&mut next, "hello");
    }
}

#[test]
fn a_close_callback_starts_work() {
    for ends in [close, Client::reset] {
        let bench = Bench::start(|_| ());
        ends(bench.open("/last"));
        bench.wait_for_no_connections();
        bench.allow("a");
        bench.wait_for("the end of the work", |it| {
            it.finished.load(Ordering::Relaxed) == 1
        });
    }
}

#[test]
fn a_drain_waits_for_the_work_that_its_close_callbacks_start() {
    let bench = Bench::start(|_| ());
    let clients = [bench.open("/last"), bench.open("/last")];
    bench.running.publisher().drain(ms(10_000));
    for mut client in clients {
        assert_eq!(client.frame().close_code(), 1001);
        client.send(&client::close(1001, ""));
        client.finish();
    }
    bench.wait_for("the work", |it| it.running.load(Ordering::Relaxed) == 2);
    (0..2).for_each(|_| bench.allow("a"));
    let Bench {
        shared, running, ..
    } = bench;
    running.join().expect("the server ends");
    assert_eq!(shared.finished.load(Ordering::Relaxed), 2);
}

#[test]
fn work_is_dropped_at_the_close_timeout_after_its_connection_has_ended() {
    let bench = Bench::start(|config| config.close_timeout = ms(200));
    let mut client = bench.open("/");
    for text in ["gate a", "gate b", "ordered a", "ordered b"] {
        ask(&mut client, text);
    }
    say(&mut client, "hello");
    client.reset();
    bench.wait_for("the end of the tasks", |it| {
        it.running.load(Ordering::Relaxed) == 0
    });
    assert_eq!(bench.shared.finished.load(Ordering::Relaxed), 0);
}

#[test]
fn a_drain_waits_for_work_of_connections_that_have_ended() {
    let bench = Bench::start(|_| ());
    let mut client = bench.open("/");
    ask(&mut client, "gate a");
    say(&mut client, "hello");
    client.reset();
    bench.wait_for_no_connections();
    bench.running.publisher().drain(ms(10_000));
    // The listening sockets are closed before the drain ends.
    wait::until(ms(10_000), "the start of the drain", || {
        Client::connect_to(bench.address).is_err()
    });
    bench.allow("a");
    let Bench {
        shared, running, ..
    } = bench;
    running.join().expect("the server ends");
    assert_eq!(shared.finished.load(Ordering::Relaxed), 1);
}

#[test]
fn a_drain_drops_work_at_its_timeout() {
    let bench = Bench::start(|_| ());
    let (mut gone, mut left) = (bench.open("/"), bench.open("/"));
    for client in [&mut gone, &mut left] {
        ask(client, "gate a");
        say(client, "hello");
    }
    gone.reset();
    bench.running.publisher().drain(ms(300));
    let Bench {
        shared, running, ..
    } = bench;
    running.join().expect("the server ends");
    assert_eq!(shared.finished.load(Ordering::Relaxed), 0);
    assert_eq!(shared.running.load(Ordering::Relaxed), 0);
}

#[test]
fn work_of_clients_that_have_gone_counts_for_the_bound_of_the_shard() {
    let bench = Bench::start(|config| {
        config.shards = Some(1);
        config.max_tasks = 4;
    });
    for number in 1..=4 {
        let mut client = bench.open("/");
        ask(&mut client, "gate a");
        bench.wait_for("the task", |it| {
            it.running.load(Ordering::Relaxed) == number
        });
        client.reset();
    }
    let head = bench.request("/").head();
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(head.contains("\r\nRetry-After: 1\r\n"), "{head}");
    bench.allow("a");
    bench.wait_for("the end of one task", |it| {
        it.running.load(Ordering::Relaxed) == 3
    });
    wait::until(ms(10_000), "a place for another task", || {
        bench.request("/").head().starts_with("HTTP/1.1 101 ")
    });
}

#[test]
fn a_connection_with_too_many_tasks_is_not_read_until_one_has_finished() {
    let bench = Bench::start(|config| config.max_tasks_per_connection = 3);
    let (mut client, mut other) = (bench.open("/"), bench.open("/other"));
    for _ in 0..10 {
        ask(&mut client, "gate a");
    }
    ask(&mut client, "last");
    bench.wait_for("three tasks", |it| it.running.load(Ordering::Relaxed) == 3);
    ask(&mut other, "gate b");
    say(&mut other, "hello");
    // The last message is read when at most two tasks are left.
    for _ in 0..8 {
        bench.allow("a");
        client.expect(FIN | TEXT, "a");
    }
    client.expect(FIN | TEXT, "last");
    for _ in 0..2 {
        bench.allow("a");
        client.expect(FIN | TEXT, "a");
    }
    let most = bench.shared.most_running.load(Ordering::Relaxed);
    assert!(most <= 4, "{most} tasks ran at the same time");
}

#[test]
fn a_shard_with_too_many_tasks_reads_only_connections_without_a_task() {
    let bench = Bench::start(|config| config.max_tasks = 4);
    let [(mut one, _), (mut other, _)] = bench.open_on_two_shards();
    for client in [&mut one, &mut other] {
        for _ in 0..10 {
            ask(client, "gate a");
        }
    }
    bench.wait_for("four tasks on each shard", |it| {
        it.running.load(Ordering::Relaxed) == 8
    });
    for _ in 0..20 {
        bench.allow("a");
    }
    for client in [&mut one, &mut other] {
        for _ in 0..10 {
            client.expect(FIN | TEXT, "a");
        }
    }
    assert_eq!(bench.shared.most_running.load(Ordering::Relaxed), 8);
}

#[test]
fn a_remote_reaches_a_connection_on_another_shard() {
    let bench = Bench::start(|_| ());
    let remote: Remote<Tasks> = bench.running.remote();
    for (mut client, id) in bench.open_on_two_shards() {
        let answer = remote.with(id, |_, conn| {
            conn.send("a direct message");
            conn.state().clone()
        });
        client.expect(FIN | TEXT, "a direct message");
        let path = answer.expect("the shard is not busy").wait();
        assert!(path.is_ok_and(|path| path.starts_with('/')));
        let panicking = remote.with(id, |_, _| panic!("in a closure"));
        assert_eq!(client.frame().close_code(), 1011);
        let answer = panicking.expect("the shard is not busy").wait();
        assert_eq!(answer, Err::<(), _>(RemoteError::Gone));
        let answer = remote.with(id, |_, _| ()).expect("the shard is not busy");
        assert_eq!(answer.wait(), Err(RemoteError::Gone));
    }
}

#[test]
fn another_thread_wakes_a_shard_that_waits_in_its_runtime_again_and_again() {
    let bench = Bench::start(|_| ());
    let publisher = bench.running.publisher();
    let mut clients = bench.open_on_two_shards();
    for (client, _) in &mut clients {
        bench.allow("a");
        ask(client, "gate a");
        client.expect(FIN | TEXT, "a");
    }
    for round in 0..20 {
        for (client, id) in &mut clients {
            let text = round.to_string();
            publisher.send(*id, &text).expect("the shard is not busy");
            client.expect(FIN | TEXT, &text);
            say(client, "hello");
        }
    }
}

#[test]
fn a_remote_for_another_handler_reaches_nobody() {
    struct Other;
    impl Handler for Other {
        type State = ();
        fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
            Verdict::accept(())
        }
        fn message(&mut self, _: &mut Conn<'_, Self>, _: Message<'_>) {}
    }
    let bench = Bench::start(|_| ());
    let remote: Remote<Other> = bench.running.remote();
    let [(mut client, id), _other] = bench.open_on_two_shards();
    let answer = remote.with(id, |_, _| ()).expect("the shard is not busy");
    assert_eq!(answer.wait(), Err(RemoteError::Gone));
    say(&mut client, "hello");
}

#[test]
fn an_id_of_another_server_reaches_no_shard_that_does_not_exist() {
    let bench = Bench::start(|_| ());
    let [(_one, id), (_other, other_id)] = bench.open_on_two_shards();
    let id = [id, other_id]
        .into_iter()
        .find(|id| id.to_string().starts_with("1-"));
    let id = id.expect("one connection is on the second shard");
    let small = Server::builder()
        .listen("127.0.0.1:0")
        .configure(|config| config.shards = Some(1))
        .bind()
        .expect("a free port");
    let shared = Arc::clone(&bench.shared);
    let small = small.start(move |_| Ok(Tasks { shared, outputs: 0 }));
    let small = small.expect("io_uring is available");
    let (remote, gone) = (small.remote::<Tasks>(), Err(RemoteError::Gone));
    assert_eq!(remote.send(id, "hello"), gone);
    assert_eq!(
        remote.close(id, tidewheel::CloseCode::NORMAL_CLOSURE, ""),
        gone
    );
    assert_eq!(remote.with(id, |_, _| ()).map(|_| ()), gone);
}

#[test]
fn a_server_with_waiting_tasks_stops() {
    let mut bench = Bench::start(|_| ());
    let mut client = bench.open("/");
    ask(&mut client, "gate a");
    say(&mut client, "hello");
    bench.running.stop();
    assert_eq!(bench.shared.dropped.load(Ordering::Relaxed), 1);
    assert_eq!(client.end(), client::End::Reset);
}

#[test]
fn a_verdict_may_follow_later() {
    let bench = Bench::start(|_| ());
    let mut client = bench.request("/later/accepted");
    // A frame that arrives before the verdict is read behind it.
    client.send(&client::text("early"));
    bench.wait_for("the task", |it| it.running.load(Ordering::Relaxed) == 1);
    say(&mut bench.open("/other"), "hello");
    client.send(&client::text("less early"));
    bench.allow("a");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(
        head.contains("\r\nSet-Cookie: seen=1\r\nX-Outer: 1\r\n"),
        "{head}"
    );
    client.expect(FIN | TEXT, "early");
    client.expect(FIN | TEXT, "less early");
    say(&mut client, "late");
}

#[test]
fn a_verdict_that_follows_later_refuses_or_waits_again() {
    let bench = Bench::start(|_| ());
    let mut client = bench.request("/later/refused");
    client.send(&client::text("early"));
    bench.allow("a");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    assert_eq!(client.bytes(17), br#"{"error":"token"}"#);
    assert_eq!(client.end(), client::End::Fin);
    let mut client = bench.request("/later/again");
    bench.allow("a");
    let head = client.head();
    assert!(head.contains("\r\nX-Inner: 1\r\nX-Outer: 1\r\n"), "{head}");
    say(&mut client, "hello");
}

#[test]
fn a_panic_of_a_verdict_or_of_a_response_is_answered_with_500() {
    let bench = Bench::start(|_| ());
    let mut client = bench.request("/later/panic");
    bench.allow("a");
    assert!(client.head().starts_with("HTTP/1.1 500 "));
    let mut client = Client::connect_to(bench.address).expect("the server accepts");
    client.send(b"GET /panic HTTP/1.1\r\nHost: a\r\n\r\n");
    bench.allow("a");
    assert!(client.head().starts_with("HTTP/1.1 500 "));
    say(&mut bench.open("/other"), "hello");
}

#[test]
fn a_verdict_that_takes_too_long_is_dropped_at_the_handshake_timeout() {
    let bench = Bench::start(|config| config.handshake_timeout = ms(100));
    let mut client = bench.request("/later/accepted");
    assert!(client.head().starts_with("HTTP/1.1 503 "));
    bench.wait_for("the end of the task", |it| {
        it.dropped.load(Ordering::Relaxed) == 1
    });
}

#[test]
fn a_verdict_is_dropped_when_the_client_goes() {
    let bench = Bench::start(|_| ());
    let clients: Vec<_> = (0..10).map(|_| bench.request("/later/accepted")).collect();
    bench.wait_for("the tasks", |it| it.running.load(Ordering::Relaxed) == 10);
    drop(clients);
    bench.wait_for("the end of the tasks", |it| {
        it.dropped.load(Ordering::Relaxed) == 10
    });
}

#[test]
fn a_request_that_needs_one_task_too_many_gets_503() {
    let bench = Bench::start(|config| config.max_tasks = 2);
    let mut clients: Vec<_> = (0..20).map(|_| bench.request("/later/accepted")).collect();
    bench.wait_for("two tasks on each shard", |it| {
        it.running.load(Ordering::Relaxed) == 4
    });
    (0..4).for_each(|_| bench.allow("a"));
    let heads = clients.iter_mut().map(Client::head);
    let accepted = heads.filter(|head| match head.starts_with("HTTP/1.1 101 ") {
        true => true,
        false => {
            assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
            assert!(head.contains("\r\nRetry-After: 1\r\n"), "{head}");
            false
        }
    });
    assert_eq!(accepted.count(), 4);
}

#[test]
fn a_drain_answers_undecided_requests_with_503() {
    let bench = Bench::start(|_| ());
    let mut client = bench.request("/later/accepted");
    bench.wait_for("the task", |it| it.running.load(Ordering::Relaxed) == 1);
    bench.running.publisher().drain(ms(10_000));
    assert!(client.head().starts_with("HTTP/1.1 503 "));
    bench.wait_for("the end of the task", |it| {
        it.dropped.load(Ordering::Relaxed) == 1
    });
}

#[test]
fn a_response_may_follow_later() {
    let bench = Bench::start(|_| ());
    for (method, has_body) in [("GET", true), ("HEAD", false), ("POST", true)] {
        let mut client = Client::connect_to(bench.address).expect("the server accepts");
        client.send(format!("{method} /page HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        bench.allow("a");
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains("\r\nContent-Length: 5\r\n"), "{head}");
        if has_body {
            assert_eq!(client.bytes(5), b"/page");
        }
        assert_eq!(client.end(), client::End::Fin);
    }
}

#[test]
fn a_server_without_tasks_refuses_them_and_serves() {
    let bench = Bench::start(|config| config.max_tasks = 0);
    let mut client = bench.open("/");
    ask(&mut client, "gate a");
    assert_eq!(client.frame().close_code(), 1011);
    let mut client = bench.request("/later/accepted");
    assert!(client.head().starts_with("HTTP/1.1 503 "));
    say(&mut bench.open("/"), "hello");
}
