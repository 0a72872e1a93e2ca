//! The WebSocket protocol (RFC 6455, with the compression of RFC 7692) without I/O: no socket, no clock, no
//! runtime. It is for servers and clients that do their own I/O, on blocking sockets, epoll or io_uring.
//!
//! Received bytes and the current time go in. Events, bytes to send and the next deadline come out. A
//! [`Connection`] is one open WebSocket: it parses, unmasks and validates messages in the receive buffer,
//! answers pings, sends keepalive pings, and performs the closing handshake. An [`Endpoint`] has the
//! limits, deadlines and buffers that the connections of one thread share. The module [`handshake`] has the
//! opening handshake.
//!
//! ```
//! use tidewheel_codec::handshake::{Limits, Request};
//! use tidewheel_codec::{Config, Connection, Endpoint, Event, Role, Time, Transmit};
//!
//! let mut server = Endpoint::new(Config::new(Role::Server))?;
//! let mut out = Vec::new();
//!
//! // The opening handshake.
//! let bytes = b"GET /chat HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
//!     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
//! let (request, size) = Request::parse(bytes, &Limits::default())?.expect("the request is complete");
//! assert_eq!((request.path(), size), ("/chat", bytes.len()));
//! request.upgrade()?.write(&mut out);
//! assert!(out.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
//! out.clear();
//!
//! // A masked "Hello" (RFC 6455 5.7), and a masked Close with code 1000.
//! let mut received = *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x88\x82\x00\x00\x00\x00\x03\xe8";
//! let mut connection = Connection::new(Time::from_millis(0), 0);
//! let mut input = connection.receive(&mut received, Time::from_millis(5));
//! while let Some(event) = connection.poll_event(&mut server, &mut input, &mut out) {
//!     if let Event::Message(message) = event {
//!         assert_eq!(message.as_text(), Some("Hello"));
//!     }
//! }
//!
//! // The answer to the Close, then FIN.
//! assert_eq!(out, b"\x88\x02\x03\xe8");
//! assert_eq!(connection.poll_transmit(), Transmit::Finish);
//! assert_eq!(connection.poll_disconnect().unwrap().cause.as_str(), "peer_close");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/blocking_echo.rs` is a complete server on blocking sockets.
//!
//! # The loop around a connection
//!
//! 1. Pass each buffer of received bytes to [`Connection::receive`], then call
//!    [`Connection::poll_event`] until it returns `None`. Send the bytes that it appended to `out`.
//! 2. Call [`Connection::handle_timeout`] at the time that [`Connection::poll_timeout`] returns.
//! 3. After each of them, call [`Connection::poll_disconnect`] and [`Connection::poll_transmit`].

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
pub use connection::{Acknowledged, CloseError, Closed, Connection, Input, PingError, Transmit};
pub use disconnect::{Cause, CloseFrame, Disconnect, Initiator, Traffic};
pub use endpoint::Endpoint;
pub use message::{Event, Message, Reply};
pub use role::Role;
pub use time::Time;
pub use violation::Violation;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
