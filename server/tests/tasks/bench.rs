//! A server with a handler that starts tasks, and its clients.

use std::{
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tidewheel::{
    BoxError, Config, Conn, ConnectionId, Cookie, Disconnect, Handler, Message, Request, Response,
    Running, Server, Verdict,
};
use tokio::sync::Semaphore;

use crate::support::{
    client::{self, Client, FIN, TEXT},
    ms, wait,
};

/// The state that the handlers of all shards share with a test.
#[derive(Default)]
pub(crate) struct Shared {
    /// Tasks of the messages `gate` and `ordered` wait for a permit.
    pub(crate) gates: HashMap<&'static str, Semaphore>,
    pub(crate) running: AtomicUsize,
    pub(crate) most_running: AtomicUsize,
    /// Number of tasks that were dropped or have finished.
    pub(crate) dropped: AtomicUsize,
    /// Number of tasks of the messages `gate` and `ordered` that have finished.
    pub(crate) finished: AtomicUsize,
    /// The ids of open connections, by the paths of their requests.
    pub(crate) ids: Mutex<HashMap<String, ConnectionId>>,
}

impl Shared {
    /// Waits until the test allows one more to pass a gate.
    async fn pass(&self, gate: &str) {
        let permit = self.gates[gate].acquire().await;
        permit.expect("the gate is not closed").forget();
    }
}

/// Counts a running task.
pub(crate) struct Counted(Arc<Shared>);

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
pub(crate) struct Tasks {
    pub(crate) shared: Arc<Shared>,
    /// Number of outputs that this shard has handled.
    pub(crate) outputs: usize,
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
            // A page of this server, by a library for tokio.
            ("fetch", address) => {
                let task = fetch(address.to_owned());
                conn.spawn(task, |_, conn, body| {
                    conn.send(body.expect("the server has the page"));
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

/// Requests `/page` from a server with hyper's client.
async fn fetch(address: String) -> Result<Bytes, BoxError> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    let request = hyper::Request::get("/page").header("Host", "a");
    let response = sender
        .send_request(request.body(Empty::<Bytes>::new())?)
        .await?;
    Ok(response.into_body().collect().await?.to_bytes())
}

pub(crate) struct Bench {
    pub(crate) address: SocketAddr,
    pub(crate) shared: Arc<Shared>,
    pub(crate) running: Running,
}

impl Bench {
    pub(crate) fn start(change: impl FnOnce(&mut Config)) -> Self {
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
    pub(crate) fn request(&self, path: &str) -> Client {
        let mut client = Client::connect_to(self.address).expect("the server accepts");
        client.send_request(path);
        client
    }

    pub(crate) fn open(&self, path: &str) -> Client {
        let mut client = self.request(path);
        client.accept();
        client
    }

    /// Opens connections until two are on different shards.
    pub(crate) fn open_on_two_shards(&self) -> [(Client, ConnectionId); 2] {
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

    pub(crate) fn allow(&self, gate: &str) {
        self.shared.gates[gate].add_permits(1);
    }

    /// Waits for the end of the server.
    pub(crate) fn join(self) -> Arc<Shared> {
        self.running.join().expect("the server ends");
        self.shared
    }

    pub(crate) fn wait_for_no_connections(&self) {
        wait::until(ms(10_000), "the end of all connections", || {
            self.running.publisher().snapshot().total().connections == 0
        });
    }

    pub(crate) fn wait_for(&self, what: &str, met: impl Fn(&Shared) -> bool) {
        wait::until(ms(10_000), what, || met(&self.shared));
    }
}

/// Returns whether two ids, which begin with the number of the shard, are of different shards.
pub(crate) fn is_on_other_shard(one: ConnectionId, other: ConnectionId) -> bool {
    let shard = |id: ConnectionId| id.to_string().split('-').next().map(str::to_owned);
    shard(one) != shard(other)
}

/// Sends a text message that is echoed.
pub(crate) fn say(client: &mut Client, text: &str) {
    client.send(&client::text(text));
    client.expect(FIN | TEXT, text);
}

/// Ends a connection by a closing handshake.
pub(crate) fn close(mut client: Client) {
    client.send(&client::close(1000, ""));
    assert_eq!(client.frame().close_code(), 1000);
    client.finish();
}

pub(crate) fn ask(client: &mut Client, text: &str) {
    client.send(&client::text(text));
}
