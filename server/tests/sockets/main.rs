//! The program over real sockets: what a client and the kernel see of it.
//!
//! The numbers R1 to R17 in the names are the rows of the table of what must hold in the life and
//! death of a connection. P, T, C and H are the ping interval and the ping, close and handshake
//! timeouts.

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod backpressure;
mod closing;
mod counts;
mod departures;
mod fanout;
mod handshake;
mod keepalive;
mod limits;
mod messages;
mod service;
mod shutdown;
mod violations;
