//! A WebSocket server runtime for Linux on io_uring.
//!
//! It is for servers that hold very many connections, fan messages out to them, and stay in
//! control when a great many go away at once: every connection has a deadline that holds,
//! whatever the network does. It needs Linux 6.1 or newer.
//!
//! ```no_run
//! use tidewheel::{Config, Conn, Error, Handler, Message, Request, Sent, Server, Verdict};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type State = ();
//!     fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
//!         Verdict::accept(())
//!     }
//!     fn message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
//!         let _: Sent = conn.send(message);
//!     }
//! }
//!
//! fn main() -> Result<(), Error> {
//!     Server::bind("127.0.0.1:8080", Config::default())?.run(|_shard| Echo)
//! }
//! ```
//!
//! # The parts
//!
//! A [`Server`] runs one [shard] on each core: a thread that owns a ring, the connections
//! that it accepted, and one value of the application's [`Handler`]. A handler is called by
//! its own shard only, so it needs no lock. How shards reach each other's clients, [`Conn::publish`] and
//! [`Remote`] say. [`Config`] has the limits and deadlines, each with a
//! default. How a connection ended, [`Disconnect`] tells: who, why, and the codes both ways.
//!
//! Underneath, the [`ring`] is a trait: io_uring, or (feature `sim`) a simulated kernel and
//! network in virtual time, for tests.
#![deny(unsafe_code)]

mod admission;
#[cfg(test)]
mod budgets;
mod capacity;
#[cfg(feature = "cli")]
pub mod cli;
mod command;
mod config;
mod conn;
mod connection;
mod connection_id;
mod contain;
mod control;
mod driver;
mod error;
mod fanout;
mod handler;
mod host;
mod hosts;
mod listen;
#[allow(unsafe_code)]
mod message;
mod origins;
mod outbox;
mod outgoing;
mod publish_token;
mod remote;
#[allow(unsafe_code)]
pub mod ring;
mod server;
pub mod shard;
mod site;
mod stats;
mod topic;

pub use config::{
    CONNECTION_OVERHEAD, Config, Drain, InvalidConfig, PanicPolicy, SlowConsumer, TopicRule,
};
pub use conn::{Conn, PublishError, Sent};
pub use connection_id::ConnectionId;
pub use error::Error;
pub use handler::{Handler, Verdict};
pub use hosts::{HostPattern, Hosts, InvalidHost};
pub use message::Message;
pub use origins::{InvalidOrigin, OriginPattern, Origins};
pub use outgoing::Outgoing;
pub use publish_token::{InvalidPublishToken, PublishToken};
pub use remote::{Remote, RemoteError};
pub use server::{Running, Server};
pub use tidewheel_codec::{
    Cause, CloseCode, Disconnect, Initiator, Time,
    deflate::Deflate,
    handshake::{Rejection, Request},
};
pub use topic::TopicError;

/// The programs in the documents compile.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/handlers.md")]
    struct Handlers;
}
