//! Tidewheel.
#![deny(unsafe_code)]

#[cfg(feature = "cli")]
pub mod cli;
mod config;
mod conn;
mod connection;
mod control;
mod driver;
mod handler;
mod host;
#[allow(unsafe_code)]
mod outbox;
#[allow(unsafe_code)]
pub mod ring;
mod server;
pub mod shard;
mod stats;

pub use config::{Config, InvalidConfig, SlowConsumer};
pub use conn::{Conn, ConnectionId, Outgoing, Sent};
pub use handler::{Handler, Verdict};
pub use server::{Error, Running, Server};
pub use tidewheel_codec::{
    Cause, CloseCode, Disconnect, Initiator, Message, Time,
    handshake::{Rejection, Request},
};
