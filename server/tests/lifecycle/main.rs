//! What must hold in the life and death of a connection, rule by rule, over a network that can be
//! cut.
//!
//! `cargo test -p tidewheel --test lifecycle -- --nocapture`
//!
//! R1 to R20 in the names are the rules. Each test has the real program in a network namespace of
//! its own, its clients in another, and a router between them; each prints what it measured beside
//! the bound, and fails beyond it. P, T, C and H are the ping interval and the ping, close and
//! handshake timeouts; S is the slack of 0.3 s. The tests take turns, because they measure.
//!
//! Namespaces need root and `ip` (iproute2). Without them a line on standard error says that the
//! tests were left out; with `TIDEWHEEL_NETNS=required` they fail.

#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod black_hole;
mod closing;
mod crowd;
mod departures;
mod figures;
mod handshake;
mod keepalive;
mod leaks;
mod mass_expiry;
mod mass_return;
mod network;
mod pressure;
mod prober;
mod shutdown;
mod slow_links;
mod violations;
