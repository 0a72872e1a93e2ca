//! Tests of a handler without a network, in virtual time.
//!
//! A [`TestServer`] runs one shard on a simulated kernel and network. Its clients are [`TestClient`]s. Time passes only
//! while a test waits, so a test of a deadline of minutes takes milliseconds.
//!
//! ```
//! use std::time::Duration;
//! use tidewheel::{Conn, Handler, Message, Request, Verdict, testing::TestServer};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type State = ();
//!     fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
//!         Verdict::accept(())
//!     }
//!     fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
//!         conn.send(message);
//!     }
//! }
//!
//! let server = TestServer::new(|_| Ok(Echo));
//! let client = server.connect("/");
//! client.say("hello");
//! client.expect("hello");
//!
//! // The network loses everything from now on. The server notices it by its pings.
//! client.cut();
//! server.advance(Duration::from_secs(60));
//! assert_eq!(server.connections(), 0);
//! ```
//!
//! Every method panics if what it waits for does not happen within 10 s of virtual time.
//!
//! With the feature `tasks`, tasks run on a `tokio_uring` runtime whose clock is the virtual time. While a task is
//! unfinished, a millisecond of virtual time takes up to a millisecond of real time, so that a task can wait for
//! something real, such as a database. The runtime is the server's own, so a test is an ordinary `#[test]`.

mod client;
mod clients;
#[cfg(feature = "tasks")]
mod runtime;
#[cfg(not(feature = "tasks"))]
#[path = "testing/no_runtime.rs"]
mod runtime;

use std::{cell::RefCell, fmt, rc::Rc, time::Duration};

use tidewheel_codec::{Endpoint, Time};

pub use self::{
    client::{TestClient, TestRequest},
    clients::TestResponse,
};
use self::{clients::Clients, runtime::Runtime};
use crate::{
    BoxError, Config, Handler, Publisher, Remote, ShardContext,
    ring::sim::{Faults, SimRing, Simulation},
    shard::{Capacity, Next, Parts, Shard},
};

/// Real time for which tasks may wait for something real while a test lets time pass. A task may be there for as long as
/// its connection.
const PATIENCE_IN_ADVANCE: Duration = Duration::from_millis(100);

/// The same while the server shuts down.
const PATIENCE_IN_DRAIN: Duration = Duration::from_secs(1);

/// Virtual time within which something that a test waits for has to happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections of a test, at most.
const CONNECTIONS_MAX: u32 = 4096;

/// One shard of a server on a simulated network, in virtual time.
///
/// Each connection has an address of its own from 10.0.0.0/8.
pub struct TestServer<H: Handler> {
    world: Rc<RefCell<World<H>>>,
    publisher: Publisher,
}

/// The shard, its clients, and the time.
struct World<H: Handler> {
    /// The first field, because the tasks of the shard end with it.
    shard: Option<Shard<SimRing, H>>,
    clients: Clients,
    runtime: Runtime,
}

/// A world of any handler.
trait AnyWorld {
    /// Lets the server and the clients act until something has happened, or `until`.
    fn step(&mut self, until: Time);

    /// Whether the server has shut down, so that nothing more happens.
    fn is_over(&self) -> bool;

    fn clients(&mut self) -> &mut Clients;
}

impl<H: Handler> AnyWorld for World<H> {
    fn step(&mut self, until: Time) {
        let now = self.clients.now();
        self.clients.network().wake_at(until);
        let Some(shard) = &mut self.shard else {
            return;
        };
        match self.runtime.enter(|| shard.turn(now)) {
            Next::Finished => {
                let shard = self.shard.take();
                let end = crate::shard::End::Finished;
                self.runtime
                    .enter(|| shard.map(|shard| shard.end(&end, now)));
            }
            Next::Enter(wait) => {
                let wait = self.runtime.run_tasks(shard, wait);
                let entered = self.runtime.enter(|| shard.enter(wait));
                entered.expect("the simulated ring does not fail");
            }
        }
        self.runtime.advance(self.clients.now().since(now));
        self.clients.read();
    }

    fn is_over(&self) -> bool {
        self.shard.is_none()
    }

    fn clients(&mut self) -> &mut Clients {
        &mut self.clients
    }
}

/// Runs the world until `done` returns a value, for at most `limit` of virtual time.
fn run<T>(
    world: &Rc<RefCell<dyn AnyWorld>>,
    limit: Duration,
    mut done: impl FnMut(&mut Clients) -> Option<T>,
) -> Option<T> {
    let until = world.borrow_mut().clients().now() + limit;
    loop {
        let mut world = world.borrow_mut();
        if let Some(value) = done(world.clients()) {
            return Some(value);
        }
        if world.is_over() || world.clients().now() >= until {
            return None;
        }
        world.step(until);
    }
}

impl<H: Handler> TestServer<H> {
    /// Starts a server with one shard and the default settings. `make` returns its handler, like the closure of
    /// [`Server::start`](crate::Server::start).
    ///
    /// # Panics
    /// If `make` fails, or, with the feature `tasks`, within an asynchronous runtime.
    pub fn new(make: impl FnOnce(&ShardContext) -> Result<H, BoxError>) -> Self {
        Self::configured(|_| (), make)
    }

    /// Starts a server with one shard, whose other settings `configure` may change.
    ///
    /// # Panics
    /// If a setting is out of bounds, if `make` fails, or, with the feature `tasks`, within an asynchronous runtime.
    pub fn configured(
        configure: impl FnOnce(&mut Config),
        make: impl FnOnce(&ShardContext) -> Result<H, BoxError>,
    ) -> Self {
        let mut config = Config::default();
        configure(&mut config);
        config.shards = Some(1);
        let simulation = Simulation {
            sockets: CONNECTIONS_MAX,
            faults: Faults::NONE,
            latency_ms_max: 1,
            ..Simulation::default()
        };
        let capacity = Capacity {
            places: CONNECTIONS_MAX,
            connections: config.max_connections.unwrap_or(CONNECTIONS_MAX),
        };
        let (parts, runtime) = (Parts::alone(capacity, &config), Runtime::new());
        let publisher = parts.publisher();
        let ring = SimRing::new(simulation).expect("memory for the simulation");
        let clients = Clients::new(ring.network());
        let shard = runtime.enter(|| {
            let handler = make(&ShardContext::new(0, 1, publisher.clone()));
            let handler = handler.unwrap_or_else(|error| panic!("no handler: {error}"));
            let endpoint = Endpoint::new(config.protocol()).expect("the settings are valid");
            Shard::new(ring, handler, &config, endpoint, parts, clients.now())
        });
        let shard = shard.unwrap_or_else(|error| panic!("{error}"));
        let world = World {
            shard: Some(shard),
            clients,
            runtime,
        };
        Self {
            world: Rc::new(RefCell::new(world)),
            publisher,
        }
    }

    fn any_world(&self) -> Rc<RefCell<dyn AnyWorld>> {
        Rc::clone(&self.world) as Rc<RefCell<dyn AnyWorld>>
    }

    /// Opens a WebSocket connection.
    ///
    /// # Panics
    /// If the server refuses it.
    #[must_use]
    pub fn connect(&self, path: &str) -> TestClient {
        match self.request(path).connect() {
            Ok(client) => client,
            Err(response) => panic!("the server refuses {path}: {response:?}"),
        }
    }

    /// Begins a request for a path, with its query if there is one.
    #[must_use]
    pub fn request(&self, path: &str) -> TestRequest {
        TestRequest::new(self.any_world(), path)
    }

    /// Requests a path with GET.
    #[must_use]
    pub fn get(&self, path: &str) -> TestResponse {
        self.request(path).send("GET", "")
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        let done = |_: &mut Clients| None::<()>;
        self.world
            .borrow_mut()
            .runtime
            .limit_patience(PATIENCE_IN_ADVANCE);
        run(&self.any_world(), time, done);
        self.world.borrow_mut().runtime.renew_patience();
    }

    /// Number of connections of the server. A connection that has ended counts until the client has acknowledged
    /// everything.
    #[must_use]
    pub fn connections(&self) -> usize {
        let world = self.world.borrow();
        world.shard.as_ref().map_or(0, Shard::connections)
    }

    /// Calls `call` with the handler, outside of any callback.
    ///
    /// # Panics
    /// After the server has shut down.
    pub fn with_handler<T>(&self, call: impl FnOnce(&mut H) -> T) -> T {
        let mut world = self.world.borrow_mut();
        let World { shard, runtime, .. } = &mut *world;
        let shard = shard.as_mut().expect("the server has not shut down");
        runtime.enter(|| call(shard.handler()))
    }

    /// Returns a handle that publishes, sends and closes.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// Returns a handle that also calls closures with a connection.
    #[must_use]
    pub fn remote(&self) -> Remote<H> {
        Remote::new(self.publisher.clone())
    }

    /// Shuts the server down: closes every connection, and waits until all have ended, and their tasks. Together, tasks
    /// may wait for something real for a second.
    ///
    /// # Panics
    /// If they have not ended within 20 s of virtual time.
    pub fn drain(&self) {
        self.world
            .borrow_mut()
            .runtime
            .limit_patience(PATIENCE_IN_DRAIN);
        self.publisher.drain(PATIENCE);
        let until = self.world.borrow().clients.now() + PATIENCE + PATIENCE;
        while self.world.borrow().shard.is_some() {
            let mut world = self.world.borrow_mut();
            assert!(world.clients.now() < until, "the server does not shut down");
            world.step(until);
        }
    }
}

impl<H: Handler> fmt::Debug for TestServer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestServer").finish_non_exhaustive()
    }
}

impl<H: Handler> Drop for World<H> {
    fn drop(&mut self) {
        let shard = self.shard.take();
        self.runtime.enter(|| drop(shard));
    }
}
