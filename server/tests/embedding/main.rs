//! A server within a program: how it starts, and what it leaves behind if it does not.

#[path = "../support/mod.rs"]
mod support;

mod start;
