//! R24: callbacks of an application that panic, over real sockets, beside a thousand others.

#[path = "support/mod.rs"]
mod support;

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tidewheel::{
    Cause, Config, Conn, ConnectionId, Disconnect, Handler, Message, Request, Running, Server,
    SlowConsumer, Verdict,
};

use support::{
    client::{self, Received},
    ms, wait,
};

/// The causes of the ends that `close` was called with, by connection.
type Ends = Arc<Mutex<HashMap<ConnectionId, Vec<Cause>>>>;

/// Panics where the path says.
struct Panics {
    ends: Ends,
}

/// Where a connection panics.
struct State {
    place: String,
}

impl Drop for State {
    fn drop(&mut self) {
        assert_ne!(self.place, "/drop");
    }
}

impl Handler for Panics {
    type State = State;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<State> {
        let place = request.path().to_owned();
        assert_ne!(place, "/upgrade");
        Verdict::accept(State { place })
    }

    fn open(&mut self, conn: &mut Conn<'_, State>) {
        assert_ne!(conn.state().place, "/open");
    }

    fn message(&mut self, conn: &mut Conn<'_, State>, message: Message<'_>) {
        match conn.state().place.as_str() {
            "/message" => panic!("asked to"),
            "/drained" | "/gap" => {
                for _ in 0..64 {
                    let _ = conn.send(vec![0; 256 << 10].as_slice());
                }
            }
            _ => {
                let _ = conn.send(message);
            }
        }
    }

    fn drained(&mut self, conn: &mut Conn<'_, State>) {
        assert_ne!(conn.state().place, "/drained");
    }

    fn gap(&mut self, conn: &mut Conn<'_, State>, _: u64) {
        assert_ne!(conn.state().place, "/gap");
    }

    fn close(&mut self, conn: &mut Conn<'_, State>, end: &Disconnect) {
        let mut ends = ends(&self.ends);
        ends.entry(conn.id()).or_default().push(end.cause);
        drop(ends);
        assert_ne!(conn.state().place, "/close");
    }
}

fn ends(ends: &Ends) -> MutexGuard<'_, HashMap<ConnectionId, Vec<Cause>>> {
    ends.lock().expect("nobody panics with it")
}

struct Bench {
    address: SocketAddr,
    ends: Ends,
    _running: Running,
}

impl Bench {
    fn start() -> Self {
        support::raise_descriptor_limit();
        let config = Config {
            shards: Some(2),
            slow_consumer: SlowConsumer::DropNewest,
            ..Config::default()
        };
        let server = Server::bind("127.0.0.1:0", config).expect("a free port");
        let (address, ends) = (server.address(), Ends::default());
        let its = Arc::clone(&ends);
        let running = server.start(move |_| Panics {
            ends: Arc::clone(&its),
        });
        Self {
            address,
            ends,
            _running: running.expect("there is io_uring"),
        }
    }

    /// A client that has asked for a path.
    fn ask(&self, path: &str) -> client::Client {
        let stream = TcpStream::connect(self.address).expect("the server accepts");
        stream.set_nodelay(true).expect("an option of TCP");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("an option of sockets");
        let mut client = client::Client { stream };
        client.send(client::REQUEST.replace("/chat", path).as_bytes());
        client
    }

    fn open(&self, path: &str) -> client::Client {
        let mut client = self.ask(path);
        client.accept();
        client
    }

    /// Waits until `close` was called for so many connections; gives the causes of all.
    fn causes(&self, count: usize) -> Vec<Vec<Cause>> {
        wait::until(ms(10_000), "close is called", || {
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
fn r24_whichever_callback_panics_a_thousand_others_notice_nothing() {
    let bench = Bench::start();
    let mut others: Vec<client::Client> = (0..1000).map(|_| bench.open("/echo")).collect();
    // Each of them on either shard, many times over.
    for round in 0..8 {
        for path in ["/open", "/message", "/drained", "/gap"] {
            let mut client = bench.open(path);
            if path != "/open" {
                client.send(&client::text("go"));
            }
            let began = wait::now();
            let close = loop {
                let frame = client.frame();
                if frame.first == client::CLOSE {
                    break frame;
                }
            };
            assert_eq!(close.close_code(), 1011, "{path}");
            if ["/open", "/message"].contains(&path) {
                wait::assert_within(began, ms(100), path);
            }
            assert_eq!(&close.payload[2..], b"internal error", "{path}");
        }
        let mut refused = bench.ask("/upgrade");
        assert!(refused.head().starts_with("HTTP/1.1 500 "));
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
    let causes = bench.causes(8 * 6);
    assert!(causes.iter().all(|causes| causes.len() == 1), "{causes:?}");
    let count = |cause| causes.iter().filter(|it| it[0] == cause).count();
    assert_eq!(count(Cause::HandlerPanic), 8 * 4);
    assert_eq!(count(Cause::PeerClose), 8 * 2);
}

#[test]
fn r24_answers_that_were_queued_come_before_the_close() {
    let bench = Bench::start();
    let mut client = bench.open("/echo");
    echo(&mut client, "hello");
    let mut client = bench.open("/message");
    // A ping before the message is answered in the same turn.
    let bytes = [client::frame(client::PING, b"1"), client::text("go")].concat();
    client.stream.write_all(&bytes).expect("it reads");
    client.expect(client::PONG, b"1");
    assert_eq!(client.frame().close_code(), 1011);
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).expect("FIN follows");
    assert!(rest.is_empty());
}
