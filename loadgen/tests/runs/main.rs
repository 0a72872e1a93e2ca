//! Whole runs of the generator, small ones.

mod child_server;
mod command_line;
mod foreign_servers;
mod harness;
