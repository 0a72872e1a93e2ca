//! Whole runs of the generator, small ones.

mod child_server;
mod churn;
mod command_line;
mod endings;
mod fanout;
mod files;
mod foreign_servers;
mod harness;
mod names;
mod secure;
mod talk;
mod tls_server;
