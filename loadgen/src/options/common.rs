//! Options of all scenarios.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    fleet::target::Target,
    host::addresses::is_local,
    options::{
        deadlines::Deadlines,
        values::{address, count, header, seed, shards, span, subprotocol, target},
    },
    report::threshold::Threshold,
    tls::{Tls, TlsError, Trust},
};

/// Options of all scenarios.
#[derive(Args, Clone, Debug)]
pub(crate) struct CommonOptions {
    /// Number of connections, such as 500, 10k or 1M [default: that of the scenario, or fewer if
    /// the host does not allow it]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) connections: Option<u32>,

    /// Longest wait for a connection to open or to close, and for the server of --server-cmd to
    /// listen
    #[arg(long, value_name = "DURATION", value_parser = span, default_value = "10s")]
    pub(crate) timeout: Duration,

    /// Count a connection as open after its handshake, without a first echo. For servers that do
    /// not echo
    #[arg(long)]
    pub(crate) no_echo: bool,

    /// Seed of all random choices, a whole number [default: random; the report shows it]
    #[arg(long, value_name = "N", value_parser = seed)]
    pub(crate) seed: Option<u64>,

    /// URL of the server to test. Without it loadgen starts a child server
    #[arg(long, value_name = "ws[s]://HOST:PORT/PATH", value_parser = target, help_heading = "Server")]
    url: Option<Target>,

    /// Additional header of each handshake request. Can be repeated
    #[arg(long, value_name = "NAME: VALUE", value_parser = header, help_heading = "Server")]
    header: Vec<(String, String)>,

    /// Subprotocol to offer in each handshake request
    #[arg(long, value_name = "NAME", value_parser = subprotocol, help_heading = "Server")]
    subprotocol: Option<String>,

    /// Number of consecutive IP addresses at which the server listens, starting with that of --url.
    /// Needed for more connections than one address has ports [default: 1]
    #[arg(long, value_name = "N", value_parser = count, requires = "url", help_heading = "Server")]
    pub(crate) spread: Option<u32>,

    /// Command that starts the server of --url. loadgen pins it to a core, measures its CPU time
    /// and memory, and ends it
    #[arg(
        long,
        value_name = "COMMAND",
        requires = "url",
        help_heading = "Server"
    )]
    pub(crate) server_cmd: Option<String>,

    /// Count the system calls of a server that loadgen starts. Needs root, and slows each call
    /// slightly
    #[arg(long, help_heading = "Server")]
    pub(crate) count_syscalls: bool,

    /// Address of the admin listener of the server of --url, if that is a Tidewheel server. loadgen
    /// reads its metrics
    #[arg(
        long,
        value_name = "IP:PORT",
        value_parser = address,
        requires = "url",
        help_heading = "Server"
    )]
    pub(crate) admin: Option<SocketAddr>,

    /// Number of shards of the child [default: 1, or more if the connections need more]
    #[arg(
        long,
        value_name = "N",
        value_parser = shards,
        conflicts_with = "url",
        help_heading = "Server"
    )]
    pub(crate) shards: Option<u16>,

    #[command(flatten)]
    tls: TlsOptions,

    #[command(flatten)]
    pub(crate) deadlines: Deadlines,

    /// Print the JSON document (summary.json) on stdout instead of the report
    #[arg(long, help_heading = "Report")]
    pub(crate) json: bool,

    /// Write summary.json, summary.md, junit.xml, histograms and plots to this directory
    #[arg(long, value_name = "DIR", help_heading = "Report")]
    pub(crate) out: Option<PathBuf>,

    /// Compare with this summary.json, of an earlier run of the same scenario
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub(crate) baseline: Option<PathBuf>,

    /// Condition that the run has to meet, such as 'generator.busy<90%' (see Gates). Can be
    /// repeated
    #[arg(long = "assert", value_name = "GATE", help_heading = "Report")]
    pub(crate) gates: Vec<Threshold>,
}

/// TLS options for a server at a `wss://` URL.
#[derive(Args, Clone, Debug)]
struct TlsOptions {
    /// PEM file of trusted certificates, used instead of the system's: those of authorities, or the
    /// server's own
    #[arg(
        long,
        value_name = "FILE",
        requires = "url",
        conflicts_with = "insecure",
        help_heading = "TLS (wss://)"
    )]
    ca: Option<PathBuf>,

    /// Do not verify the server's certificate
    #[arg(long, requires = "url", help_heading = "TLS (wss://)")]
    insecure: bool,

    /// Make a full handshake for each connection. By default a client that reconnects resumes its
    /// last session, as browsers do
    #[arg(long, requires = "url", help_heading = "TLS (wss://)")]
    no_resumption: bool,
}

impl CommonOptions {
    /// Checks that the options do not contradict each other.
    ///
    /// # Errors
    /// A message for the command line.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.count_syscalls && self.url_is_given() && self.server_cmd.is_none() {
            return Err(
                "--count-syscalls needs a server that loadgen starts: add --server-cmd".to_owned(),
            );
        }
        let relative = self.gates.iter().find(|gate| gate.is_relative());
        if let (None, Some(gate)) = (&self.baseline, relative) {
            return Err(format!(
                "--assert '{}' compares with a baseline: add --baseline",
                gate.text()
            ));
        }
        if self.tls.is_given() && !self.is_secure() {
            return Err(
                "--ca, --insecure and --no-resumption have no effect without a wss:// URL"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Returns TLS for a `wss://` URL.
    ///
    /// # Errors
    /// If no trusted certificate can be read.
    pub(crate) fn tls(&self) -> Result<Option<Tls>, TlsError> {
        let name = self.url.as_ref().and_then(|url| url.name.clone());
        name.map(|name| Tls::new(name, self.tls.trust(), !self.tls.no_resumption))
            .transpose()
    }

    /// Returns whether this run starts the server: as a child, or by `--server-cmd`.
    pub(crate) const fn server_is_started(&self) -> bool {
        self.url.is_none() || self.server_cmd.is_some()
    }

    /// Returns whether the server's metrics can be read.
    pub(crate) const fn server_reports(&self) -> bool {
        self.url.is_none() || self.admin.is_some()
    }

    /// Returns whether the server is on this host.
    pub(crate) fn server_is_local(&self) -> bool {
        let url = self.url.as_ref();
        url.is_none_or(|url| is_local(url.address))
    }

    /// Returns whether connections use TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.url.as_ref().is_some_and(|url| url.name.is_some())
    }

    /// Returns the target of `--url`, with headers, subprotocol and addresses of the options.
    pub(crate) fn target(&self) -> Option<Target> {
        self.url.clone().map(|url| self.with_request(url))
    }

    /// Returns whether `--url` is given.
    pub(crate) const fn url_is_given(&self) -> bool {
        self.url.is_some()
    }

    /// Returns `target` with headers, subprotocol and addresses of the options.
    pub(crate) fn with_request(&self, target: Target) -> Target {
        Target {
            headers: self.header.clone(),
            protocol: self.subprotocol.clone(),
            spread: self.spread.unwrap_or(target.spread),
            ..target
        }
    }
}

impl TlsOptions {
    const fn is_given(&self) -> bool {
        self.ca.is_some() || self.insecure || self.no_resumption
    }

    fn trust(&self) -> Trust {
        match &self.ca {
            _ if self.insecure => Trust::Unverified,
            Some(path) => Trust::File(path.clone()),
            None => Trust::System,
        }
    }
}
