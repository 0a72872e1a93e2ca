//! R24: callbacks of an application that panic, beside 1,000 other connections.

#[path = "support/mod.rs"]
mod support;

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use tidewheel::{
    Cause, Conn, ConnectionId, Disconnect, Handler, Message, Request, Running, Server,
    SlowConsumer, Verdict,
};

use support::{
    client::{self, Received},
    ms, wait,
};

/// The causes that `close` was called with, by connection.
type Ends = Arc<Mutex<HashMap<ConnectionId, Vec<Cause>>>>;

/// A handler that panics in the callback that the path of the request names.
struct Panics {
    ends: Ends,
}

/// The path of a connection, which names the callback that panics.
struct State {
    path: String,
}

impl Drop for State {
    fn drop(&mut self) {
        assert_ne!(self.path, "/drop");
    }
}

impl Handler for Panics {
    type State = State;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<State> {
        let path = request.path().to_owned();
        assert_ne!(path, "/upgrade");
        Verdict::accept(State { path })
    }

    fn open(&mut self, conn: &mut Conn<'_, Self>) {
        assert_ne!(conn.state().path, "/open");
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        match conn.state().path.as_str() {
            "/message" => panic!("requested by the path"),
            "/drained" | "/gap" => {
                for _ in 0..64 {
                    conn.send(vec![0; 256 << 10]);
                }
            }
            _ => {
                conn.send(message);
            }
        }
    }

    fn drained(&mut self, conn: &mut Conn<'_, Self>) {
        assert_ne!(conn.state().path, "/drained");
    }

    fn gap(&mut self, conn: &mut Conn<'_, Self>, _: u64) {
        assert_ne!(conn.state().path, "/gap");
    }

    fn span<'s>(&self, state: &'s State) -> Option<&'s tracing::Span> {
        assert_ne!(state.path, "/span");
        None
    }

    fn close(&mut self, conn: &mut Conn<'_, Self>, end: &Disconnect) {
        let mut ends = ends(&self.ends);
        ends.entry(conn.id()).or_default().push(end.cause);
        drop(ends);
        assert_ne!(conn.state().path, "/close");
    }
}

fn ends(ends: &Ends) -> MutexGuard<'_, HashMap<ConnectionId, Vec<Cause>>> {
    ends.lock().expect("the lock is not poisoned")
}

struct Bench {
    address: SocketAddr,
    ends: Ends,
    _running: Running,
}

impl Bench {
    fn start() -> Self {
        support::raise_descriptor_limit();
        let server = Server::builder()
            .listen("127.0.0.1:0")
            .configure(|config| {
                config.shards = Some(2);
                config.slow_consumer = SlowConsumer::DropNewest;
            })
            .bind()
            .expect("a free port");
        let (address, ends) = (server.address(), Ends::default());
        let in_handler = Arc::clone(&ends);
        let running = server.start(move |_| Ok(Panics { ends: in_handler }));
        Self {
            address,
            ends,
            _running: running.expect("io_uring is available"),
        }
    }

    /// Connects, and sends a request for `path`.
    fn request(&self, path: &str) -> client::Client {
        let client = client::Client::connect_to(self.address);
        let mut client = client.expect("the server accepts a connection");
        client.send_request(path);
        client
    }

    fn open(&self, path: &str) -> client::Client {
        let mut client = self.request(path);
        client.accept();
        client
    }

    /// Waits until `close` was called for `count` connections, and returns their causes.
    fn causes(&self, count: usize) -> Vec<Vec<Cause>> {
        wait::until(ms(10_000), "calls of `close`", || {
            ends(&self.ends).len() == count
        });
        ends(&self.ends).values().cloned().collect()
    }
}

fn echo(client: &mut client::Client, text: &str) {
    client.send(&client::text(text));
    client.expect(client::FIN | client::TEXT, text);
}

#[test]
fn r24_a_panic_in_any_callback_ends_its_own_connection_only() {
    let bench = Bench::start();
    let mut others: Vec<client::Client> = (0..1000).map(|_| bench.open("/echo")).collect();
    // Several rounds, so that each path is served on both shards.
    for round in 0..8 {
        for path in ["/open", "/span", "/message", "/drained", "/gap"] {
            let mut client = bench.open(path);
            if !["/open", "/span"].contains(&path) {
                client.send(&client::text("hello"));
            }
            let began = wait::now();
            let close = loop {
                let frame = client.frame();
                if frame.first == client::CLOSE {
                    break frame;
                }
            };
            assert_eq!(close.close_code(), 1011, "{path}");
            if ["/open", "/span", "/message"].contains(&path) {
                wait::assert_within(began, ms(100), path);
            }
            assert_eq!(&close.payload[2..], b"internal error", "{path}");
        }
        let mut rejected = bench.request("/upgrade");
        assert!(rejected.head().starts_with("HTTP/1.1 500 "));
        for path in ["/close", "/drop"] {
            let mut client = bench.open(path);
            echo(&mut client, path);
            client.send(&client::close(1000, ""));
            assert_eq!(
                client.frame(),
                Received::new(client::CLOSE, [3, 232]),
                "{path}"
            );
            assert_eq!(client.end(), client::End::Fin, "{path}");
        }
        for (other, number) in others.iter_mut().zip(0..) {
            echo(other, &format!("{round} {number}"));
        }
    }
    let causes = bench.causes(8 * 7);
    assert!(causes.iter().all(|causes| causes.len() == 1), "{causes:?}");
    let count = |cause| causes.iter().filter(|it| it[0] == cause).count();
    assert_eq!(count(Cause::HandlerPanic), 8 * 5);
    assert_eq!(count(Cause::PeerClose), 8 * 2);
}

#[test]
fn r24_queued_answers_are_sent_before_the_close_1011() {
    let bench = Bench::start();
    let mut client = bench.open("/echo");
    echo(&mut client, "hello");
    let mut client = bench.open("/message");
    // The Ping is answered in the turn in which the message panics.
    let bytes = [client::frame(client::PING, b"1"), client::text("hello")].concat();
    client.stream.write_all(&bytes).expect("the server reads");
    client.expect(client::PONG, b"1");
    assert_eq!(client.frame().close_code(), 1011);
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).expect("FIN follows");
    assert!(rest.is_empty());
}
