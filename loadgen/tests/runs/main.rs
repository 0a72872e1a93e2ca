//! Short runs of the program.

mod churn;
mod close_storm;
mod command_line;
mod echo;
mod fanout;
mod files;
mod harness;
mod misbehaving_servers;
mod names;
mod scenarios;
mod tls;
mod tls_server;
