//! Tasks of an application, and closures of other threads, on the threads of the shards.

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod bench;
mod limits;
mod messages;
mod remotes;
mod work;
