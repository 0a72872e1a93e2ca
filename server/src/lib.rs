//! A WebSocket server runtime for Linux, on io_uring.
//!
//! Tidewheel is for servers with very many connections that send the same messages to many of them. It stays
//! responsive when most of them disconnect at the same moment: every wait has a deadline that does not depend on
//! the network. It needs Linux 6.1 or newer.
//!
//! A chat server: a client of `/chat/ROOM` receives every message that a client of the same room sends.
//!
//! ```no_run
//! use tidewheel::{
//!     Conn, Error, Handler, Message, Request, Response, Server, Verdict,
//! };
//!
//! struct Chat;
//!
//! impl Handler for Chat {
//!     /// The topic of a connection.
//!     type State = String;
//!
//!     fn upgrade(&mut self, request: &Request<'_>) -> Verdict<String> {
//!         match request.path().strip_prefix("/chat/") {
//!             Some(room) => Verdict::accept(format!("chat/{room}")),
//!             None => Verdict::reject(Response::text(404, "the path is /chat/ROOM")),
//!         }
//!     }
//!
//!     fn open(&mut self, conn: &mut Conn<'_, Self>) {
//!         let (topic, link) = conn.split();
//!         // `link.topic` refuses a pattern, such as `chat/*`, which would match all rooms.
//!         if let Err(error) = link.topic(topic).and_then(|_| link.subscribe(topic)) {
//!             link.send(error.to_string());
//!         }
//!     }
//!
//!     fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
//!         let (topic, link) = conn.split();
//!         if let Err(error) = link.publish(topic, message) {
//!             link.send(error.to_string());
//!         }
//!     }
//! }
//!
//! fn main() -> Result<(), Error> {
//!     Server::builder().listen("127.0.0.1:8080").bind()?.run(|_shard| Ok(Chat))
//! }
//! ```
//!
//! # Structure
//!
//! A [`Server`] runs one [shard] per core: a thread with an io_uring instance, the connections that it has
//! accepted, and one value of the application's [`Handler`]. Only that thread calls the handler, so the handler
//! needs no lock. [`Link::publish`], [`Publisher`] and [`Remote`] reach the connections of other shards. [`Config`]
//! has the limits and deadlines, each with a default. [`Disconnect`] reports how a connection ended.
//!
//! # Features
//!
//! There are no default features. These items need one:
//!
//! | feature | items |
//! |---|---|
//! | `tasks` | `Link::spawn`, `Link::spawn_in_order`, `Verdict::later`, `Response::later` |
//! | `metrics` | `Metrics` |
//! | `admin` | `ServerBuilder::admin`, `ServerBuilder::publish_token`; it implies `metrics` |
//! | `testing` | the module `testing` |
//! | `sim` | the simulated ring, `ring::sim` |
//! | `cli` | the module `cli`, and the program; it implies `admin` |
//!
//! # Tests without a network
//!
//! The trait [`ring::Ring`] abstracts the kernel: io_uring, or, with the feature `sim`, a simulated kernel and
//! network in virtual time, for tests.
#![deny(unsafe_code)]

mod admission;
#[cfg(test)]
mod budgets;
mod call;
mod capacity;
#[cfg(feature = "cli")]
pub mod cli;
mod command;
mod config;
mod conn;
mod connection;
mod connection_id;
mod contain;
#[cfg(feature = "admin")]
mod control;
mod cookie;
mod driver;
mod error;
mod fanout;
mod handler;
mod host;
mod hosts;
mod later;
mod listen;
#[allow(unsafe_code)]
mod message;
#[cfg(feature = "metrics")]
mod metrics;
mod origins;
mod outbox;
mod outgoing;
mod proxies;
#[cfg(feature = "admin")]
mod publish_token;
mod publisher;
mod remote;
mod request;
mod response;
#[allow(unsafe_code)]
pub mod ring;
mod router;
mod server;
pub mod shard;
mod site;
mod snapshot;
mod stats;
#[cfg(feature = "testing")]
pub mod testing;
mod topic;
mod verdict;

pub use config::{
    CONNECTION_OVERHEAD, Config, Drain, InvalidConfig, PanicPolicy, SlowConsumer, TopicRule,
};
pub use conn::{Conn, Link, PublishError, Sent};
pub use connection_id::ConnectionId;
pub use cookie::{Cookie, SameSite};
pub use error::{BoxError, Error};
pub use handler::Handler;
pub use hosts::{HostPattern, Hosts, InvalidHost};
pub use later::TimerId;
pub use message::Message;
#[cfg(feature = "metrics")]
pub use metrics::Metrics;
pub use origins::{InvalidOrigin, OriginPattern, Origins};
pub use outgoing::Outgoing;
pub use proxies::{InvalidProxy, ProxyHeader, TrustedProxy};
#[cfg(feature = "admin")]
pub use publish_token::{InvalidPublishToken, PublishToken};
pub use publisher::{Publisher, RemoteError};
pub use remote::{Answer, Remote};
pub use request::Request;
pub use response::Response;
pub use router::{NoRoute, Routed, Router};
pub use server::{Running, Server, ServerBuilder, ShardContext};
pub use snapshot::{Counters, Durations, Snapshot};
pub use tidewheel_codec::{
    Cause, CloseCode, CloseError, Disconnect, Initiator, PingError, Time, deflate::Deflate,
};
pub use topic::{AsTopic, Topic, TopicError};
pub use verdict::Verdict;

/// Compiles the programs in the documents.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/fan-out.md")]
    struct FanOut;
    #[doc = include_str!("../../docs/handlers.md")]
    struct Handlers;
    #[doc = include_str!("../../docs/observing.md")]
    struct Observing;
    #[doc = include_str!("../../docs/requests.md")]
    struct Requests;
    #[doc = include_str!("../../docs/running.md")]
    struct Running;
    #[doc = include_str!("../../docs/testing.md")]
    struct Testing;
}
