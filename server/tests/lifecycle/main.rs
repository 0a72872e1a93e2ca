//! Tests of the rules in docs/rules.md over a network that can be cut.
//!
//! `cargo test -p tidewheel --test lifecycle -- --nocapture`
//!
//! Each test runs the program in one network namespace and its clients in another, with a router between
//! them. It prints each measurement beside its bound. P, T, C and H are the ping interval and the ping,
//! close and handshake timeouts; S is the slack of 0.3 s. One test runs at a time, because they measure.
//!
//! Namespaces need root and `ip` (iproute2). Without them, the tests are skipped with a line on standard
//! error, or fail if `TIDEWHEEL_NETNS=required`.

#[path = "../support/mod.rs"]
mod support;

mod backpressure;
mod black_hole;
mod close_reports;
mod closing;
mod handshake;
mod keepalive;
mod leaks;
mod many_clients;
mod mass_end;
mod mass_expiry;
mod mass_return;
mod measurements;
mod network;
mod shutdown;
mod slow_links;
mod slow_reader;
mod violations;
