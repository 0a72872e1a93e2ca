//! A router: several handlers on one port.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tidewheel::{
    Conn, ConnectionId, Disconnect, Handler, Message, RemoteError, Request, Response, Router,
    Running, Server, SlowConsumer, Verdict,
};

use crate::support::{
    SLACK,
    client::{BINARY, Client, End, FIN, REQUEST, TEXT, text},
    wait,
};

/// The ends of the connections of [`Log`], by their names.
type Ends = Arc<Mutex<Vec<String>>>;

/// A handler that reports each callback to its client.
struct Log {
    ends: Ends,
}

impl Handler for Log {
    /// The name of the connection.
    type State = String;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<String> {
        match request.segments().nth(1) {
            Some(name) => Verdict::accept(name.into_owned()).header("X-Route", "log"),
            None => Verdict::reject(Response::text(403, "a name is required")),
        }
    }

    fn http(&mut self, request: &Request<'_>) -> Response {
        Response::text(200, format!("log {}", request.path()))
    }

    fn open(&mut self, conn: &mut Conn<'_, Self>) {
        let (name, link) = conn.split();
        link.send(format!("open {name}"));
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        match message.as_text() {
            Some("flood") => {
                for _ in 0..64 {
                    conn.send(vec![0; 256 << 10]);
                }
            }
            Some("timer") => {
                conn.after(Duration::from_millis(1), |_, conn| {
                    let (name, link) = conn.split();
                    link.send(format!("timer {name}"));
                });
            }
            Some(_) | None => {
                conn.send(message);
            }
        }
    }

    fn drained(&mut self, conn: &mut Conn<'_, Self>) {
        conn.send("drained");
    }

    fn gap(&mut self, conn: &mut Conn<'_, Self>, _: u64) {
        conn.send("gap");
    }

    fn close(&mut self, conn: &mut Conn<'_, Self>, _: &Disconnect) {
        self.ends.lock().unwrap().push(conn.state().clone());
    }
}

/// A handler that counts the messages of each connection, and keeps the ids of its connections.
struct Count {
    ids: Arc<Mutex<Vec<ConnectionId>>>,
}

impl Handler for Count {
    type State = u64;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<u64> {
        match request.path() {
            "/count/later" => Verdict::later(async {
                tokio::task::yield_now().await;
                Verdict::accept(100)
            }),
            _ => Verdict::accept(0),
        }
    }

    fn open(&mut self, conn: &mut Conn<'_, Self>) {
        self.ids.lock().unwrap().push(conn.id());
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, _: Message<'_>) {
        *conn.state() += 1;
        let count = conn.state().to_string();
        conn.send(count);
    }
}

struct Bench {
    address: SocketAddr,
    running: Running,
    ends: Ends,
    counters: Arc<Mutex<Vec<ConnectionId>>>,
}

impl Bench {
    fn start() -> Self {
        let server = Server::builder()
            .listen("127.0.0.1:0")
            .configure(|config| {
                config.shards = Some(1);
                config.slow_consumer = SlowConsumer::DropNewest;
            })
            .bind()
            .expect("a free port");
        let address = server.address();
        let (ends, counters) = (Ends::default(), Arc::default());
        let (log, count) = (Arc::clone(&ends), Arc::clone(&counters));
        let running = server.start(move |_| {
            Ok(Router::new("/log", Log { ends: log }).or("/count", Count { ids: count }))
        });
        Self {
            address,
            running: running.expect("io_uring is available"),
            ends,
            counters,
        }
    }

    fn open(&self, path: &str) -> Client {
        let mut client = Client::connect_to(self.address).expect("the server accepts");
        client.send_request(path);
        client.accept();
        client
    }

    fn response(&self, request: &str) -> String {
        let mut client = Client::connect_to(self.address).expect("the server accepts");
        client.send(request.as_bytes());
        let (response, end) = client.rest();
        assert_eq!(end, End::Fin);
        String::from_utf8(response).expect("the response is UTF-8")
    }
}

#[test]
fn each_path_has_its_handler_and_its_state() {
    let bench = Bench::start();
    let mut log = bench.open("/log/Ada");
    log.expect(FIN | TEXT, "open Ada");
    let mut counts = ["/count", "/count/x"].map(|path| bench.open(path));
    for expected in ["1", "2"] {
        for count in &mut counts {
            count.send(&text("any"));
            count.expect(FIN | TEXT, expected);
        }
        log.send(&text("hello"));
        log.expect(FIN | TEXT, "hello");
    }
    let mut later = bench.open("/count/later");
    later.send(&text("any"));
    later.expect(FIN | TEXT, "101");
    log.send(&text("timer"));
    log.expect(FIN | TEXT, "timer Ada");
    drop(log);
    wait::until(SLACK, "the close of Ada", || {
        *bench.ends.lock().unwrap() == ["Ada"]
    });
}

#[test]
fn requests_and_refusals_are_those_of_the_route() {
    let bench = Bench::start();
    let get = |path: &str| bench.response(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(get("/log/x").ends_with("\r\n\r\nlog /log/x"));
    assert!(
        get("/count").starts_with("HTTP/1.1 426 "),
        "{}",
        get("/count")
    );
    assert!(get("/other").starts_with("HTTP/1.1 404 "));
    let upgrade = |path: &str| bench.response(&REQUEST.replace("/chat", path));
    assert!(upgrade("/log").starts_with("HTTP/1.1 403 "));
    assert!(upgrade("/other").starts_with("HTTP/1.1 404 "));
    assert!(upgrade("/logs/x").starts_with("HTTP/1.1 404 "));
}

#[test]
fn drained_and_gap_reach_the_route() {
    let bench = Bench::start();
    let mut log = bench.open("/log/Ada");
    log.expect(FIN | TEXT, "open Ada");
    log.send(&text("flood"));
    for expected in ["gap", "drained"] {
        let mut frame = log.frame();
        while frame.first == FIN | BINARY {
            frame = log.frame();
        }
        assert_eq!(frame.payload, expected.as_bytes());
    }
}

#[test]
fn a_remote_of_a_route_reaches_the_connections_of_that_route_only() {
    let bench = Bench::start();
    let mut count = bench.open("/count");
    count.send(&text("any"));
    count.expect(FIN | TEXT, "1");
    let id = bench.counters.lock().unwrap()[0];
    let counts = bench.running.remote::<Count>();
    let answer = counts.with(id, |_, conn| {
        *conn.state() += 10;
        conn.send("called");
        *conn.state()
    });
    assert_eq!(answer.expect("the shard lives").wait(), Ok(11));
    count.expect(FIN | TEXT, "called");
    let logs = bench.running.remote::<Log>();
    let answer = logs.with(id, |_, conn| conn.state().clone());
    assert_eq!(
        answer.expect("the shard lives").wait(),
        Err(RemoteError::Gone)
    );
    // The router is a handler of all its connections.
    let all = bench.running.remote::<Router<Count, Router<Log>>>();
    let answer = all.with(id, |_, conn| conn.is_open());
    assert_eq!(answer.expect("the shard lives").wait(), Ok(true));
    count.send(&text("any"));
    count.expect(FIN | TEXT, "12");
}
