//! A server within a program: how it starts, what it leaves alone, and how it ends.

#[path = "../support/mod.rs"]
mod support;

mod drain;
mod echo;
mod own_shard;
mod runtimes;
mod start;
