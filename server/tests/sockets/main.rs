//! Tests of the program over real sockets, by what a client and the kernel see.
//!
//! R1 to R27 are the rules of docs/rules.md. P, T, C and H are the ping interval and the ping, close and
//! handshake timeouts.

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod backpressure;
mod closing;
mod counts;
mod fanout;
mod handshake;
mod http;
mod keepalive;
mod limits;
mod messages;
mod router;
mod service;
mod shutdown;
mod tcp_ends;
mod violations;
