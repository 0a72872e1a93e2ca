//! Ways to start the server under test.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{options::deadlines::Deadlines, server::service::Service};

/// First argument with which this program runs as the server.
pub(crate) const SERVER_ARGUMENT: &str = "__server";

/// The way to start a server.
#[derive(Clone, Debug)]
pub(crate) enum Launch {
    /// This program runs as a child process.
    Child(ChildSettings),
    /// A command of the user starts the server.
    Command {
        command: String,
        /// The address at which it is to listen.
        address: SocketAddr,
        /// Longest time until it listens.
        timeout: Duration,
    },
}

/// Settings of a child.
#[derive(Clone, Debug)]
pub(crate) struct ChildSettings {
    /// The address at which it listens.
    pub(crate) listen: SocketAddr,
    pub(crate) shards: u16,
    pub(crate) service: Service,
    /// Bearer token required to publish by HTTP; without a token nothing is published.
    pub(crate) publish_token: Option<String>,
    pub(crate) deadlines: Deadlines,
}

impl Launch {
    /// Returns the same launch with the address at which the first child listened.
    pub(crate) fn at(self, address: SocketAddr) -> Self {
        match self {
            Self::Child(plan) => Self::Child(ChildSettings {
                listen: address,
                ..plan
            }),
            command @ Self::Command { .. } => command,
        }
    }
}

impl ChildSettings {
    /// Returns the command that starts the child.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command
            .args([SERVER_ARGUMENT, self.service.command()])
            .args(["--shards", &self.shards.to_string()])
            .args(["--listen", &self.listen.to_string()])
            .args(["--admin", "127.0.0.1:0"])
            .args(deadline_flags(&self.deadlines))
            .stdout(Stdio::piped());
        if let Some(token) = &self.publish_token {
            command.env("TIDEWHEEL_PUBLISH_TOKEN", token);
        }
        command
    }
}

/// Returns the flags of the deadlines that are set.
fn deadline_flags(deadlines: &Deadlines) -> Vec<String> {
    let flags = [
        ("--ping-interval", deadlines.ping_interval),
        ("--ping-timeout", deadlines.ping_timeout),
        ("--close-timeout", deadlines.close_timeout),
        ("--handshake-timeout", deadlines.handshake_timeout),
    ];
    flags
        .into_iter()
        .filter_map(|(flag, value)| Some((flag, value?)))
        .flat_map(|(flag, value)| [flag.to_owned(), format!("{}ms", value.as_millis())])
        .collect()
}
