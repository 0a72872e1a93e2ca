//! RFC 6455 WebSocket, sans-I/O: no socket, no clock, no runtime.
//!
//! Bytes and `now` go in; events, bytes to send and the next deadline come out. A [`Connection`]
//! is one open WebSocket; an [`Endpoint`] is what all connections of one thread share; the opening
//! handshake is in [`handshake`].
//!
//! ```
//! use tidewheel_codec::{Config, Connection, Endpoint, Event, Role, Time, Transmit};
//!
//! let mut server = Endpoint::new(Config::new(Role::Server))?;
//! let mut connection = Connection::new(Time::from_millis(0), 0);
//! let mut out = Vec::new();
//!
//! // RFC 6455 5.7: a masked "Hello", then a masked Close with 1000.
//! let mut bytes = *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x88\x82\x00\x00\x00\x00\x03\xe8";
//! let mut input = connection.receive(&mut bytes, Time::from_millis(5));
//! while let Some(event) = connection.poll_event(&mut server, &mut input, &mut out) {
//!     if let Event::Message(message) = event {
//!         assert_eq!(message.as_text(), Some("Hello"));
//!     }
//! }
//! assert_eq!(out, b"\x88\x02\x03\xe8");
//! assert_eq!(connection.poll_transmit(), Transmit::Finish);
//! assert_eq!(connection.poll_disconnect().unwrap().cause.as_str(), "peer_close");
//! # Ok::<(), tidewheel_codec::InvalidConfig>(())
//! ```
//!
//! # The loop around a connection
//!
//! 1. Hand every buffer of received bytes to [`Connection::receive`], then call
//!    [`Connection::poll_event`] until it gives `None`; send what it appended to `out`.
//! 2. Call [`Connection::handle_timeout`] when [`Connection::poll_timeout`] is due.
//! 3. After either, look at [`Connection::poll_disconnect`] and [`Connection::poll_transmit`].

#![deny(unsafe_code)]

pub mod close;
pub mod deflate;
pub mod frame;
pub mod handshake;
pub mod mask;
pub mod utf8;

mod config;
mod connection;
mod disconnect;
mod endpoint;
mod masking_key;
mod message;
mod receiver;
mod role;
mod time;
mod violation;

pub use close::CloseCode;
pub use config::{Config, InvalidConfig};
pub use connection::{CloseError, Closed, Connection, Input, PingError, Taken, Transmit};
pub use disconnect::{Cause, CloseFrame, Disconnect, Initiator, Traffic};
pub use endpoint::Endpoint;
pub use message::{Event, Message, Reply};
pub use role::Role;
pub use time::Time;
pub use violation::Violation;
