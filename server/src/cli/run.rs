//! Runs a server with a handler until a signal.

use std::{io::Write, net::SocketAddr};

use super::{
    error::RunError,
    log,
    settings::{Address, Settings},
};
use crate::{BoxError, Error, Handler, Request, Server, ShardContext, Verdict, host};

/// Accepts a client with the first of these subprotocols that it offers, or with none.
pub(super) fn accept<S>(request: &Request<'_>, subprotocols: &[String], state: S) -> Verdict<S> {
    let mut names = subprotocols.iter();
    match names.find_map(|name| request.choose_protocol(&[name])) {
        Some(name) => Verdict::accept(state).protocol(name),
        None => Verdict::accept(state),
    }
}

/// Prints the addresses on standard output, and serves until a signal has drained the server.
pub(super) fn run<H: Handler>(
    settings: &Settings,
    make: impl FnOnce(&ShardContext) -> Result<H, BoxError> + Clone + Send + 'static,
) -> Result<(), RunError> {
    warn(settings);
    let listen = &settings.listen;
    let server = Server::builder()
        .listen(&listen.text)
        .configure(|config| *config = settings.config.clone())
        .pin_threads(true)
        .raise_descriptor_limit(true)
        .bind();
    let mut server = server.map_err(|error| at_address(error, listen))?;
    if let Some(admin) = &settings.admin {
        let token = settings.publish_token.clone();
        let listens = server.listen_for_admin(&admin.text, token);
        listens.map_err(|error| at_address(error, admin))?;
        server.count_lost_lines(log::lines_lost);
    }
    let (address, admin) = (server.address(), server.admin_address());
    let running = server.start(make)?;
    running.run_until_signal(move || announce(address, admin))?;
    Ok(())
}

/// Logs settings that have no effect, or slow the server down.
fn warn(settings: &Settings) {
    if settings.admin.is_none() && settings.publish_token.is_some() {
        tracing::warn!(
            target: "tidewheel::cli",
            "--publish-token has no effect without --admin: the admin listener receives the messages"
        );
    }
    let cores = host::cores();
    if let Some(shards) = settings.config.shards.filter(|&shards| shards > cores) {
        tracing::warn!(
            target: "tidewheel::cli",
            "{shards} shards share {cores} cores; a shard performs best with a core to itself"
        );
    }
}

/// Prints the addresses on standard output. A new thread does it, so that a full pipe does not delay
/// the server.
fn announce(address: SocketAddr, admin: Option<SocketAddr>) {
    let print = move || {
        let mut stdout = std::io::stdout().lock();
        // Errors are ignored, because standard output may be closed.
        if let Some(admin) = admin {
            let _ = writeln!(stdout, "admin on {admin}");
        }
        let _ = writeln!(stdout, "listening on {address}");
        let _ = stdout.flush();
    };
    if let Err(error) = std::thread::Builder::new().spawn(print) {
        tracing::warn!(
            target: "tidewheel::cli",
            %error,
            "cannot print the address on standard output; listening on {address}"
        );
    }
}

/// Adds the source of the address to an error that is about the address.
fn at_address(error: Error, address: &Address) -> RunError {
    match error {
        Error::Resolve { .. }
        | Error::PortTaken { .. }
        | Error::PortReserved { .. }
        | Error::NotOfThisHost { .. }
        | Error::Listen { .. } => RunError::Address {
            source_name: address.source_name.clone(),
            error,
        },
        other => other.into(),
    }
}
