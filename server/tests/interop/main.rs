//! Clients that nobody here wrote, against `tidewheel echo`.
//!
//! Python and Node.js are found by `TIDEWHEEL_PYTHON`, `TIDEWHEEL_NODE` and `NODE_PATH`, or as
//! `python3` and `node`, and a browser by `TIDEWHEEL_BROWSER`. Where one, or its library, is
//! missing, a line on standard error says what was left out; with `TIDEWHEEL_INTEROP=required`
//! that fails.

#[path = "../support/mod.rs"]
mod support;

mod browser;
mod chat;
mod dashboard;
mod examples;
mod script;
mod tungstenite;

use rustix::process::Signal;
use script::Client;
use support::{ms, process::Server};

/// Messages, fragments and pings from the client, and a Close with a code of its own.
fn talks(client: Client) {
    let server = Server::start("");
    client.run(&server.url(), "talk");
}

/// Compressed messages both ways, large and small, text and binary.
fn compresses(client: Client) {
    let server = Server::start("--compression on");
    client.run(&server.url(), "compress");
}

/// The client answers the server's pings, and so is kept for longer than one that does not.
fn stays(client: Client) {
    let server = Server::start("--ping-interval 200ms --ping-timeout 400ms");
    client.run(&server.url(), "stay");
}

/// The server's Close of 1001 is understood and answered.
fn leaves(client: Client) {
    let server = Server::start("");
    let Some(mut running) = client.start(&server.url(), "leave") else {
        return;
    };
    running.wait_until_ready();
    server.signal(Signal::TERM);
    running.finish();
    let (status, log) = server.wait(ms(10_800));
    assert!(status.success(), "the drain has ended well: {log}");
}

/// The server's Closes of 1009 and 1007 arrive.
fn is_refused(client: Client) {
    let server = Server::start("");
    client.run(&server.url(), "too_big");
    client.run(&server.url(), "bad_text");
}

macro_rules! third_party {
    ($($name:ident: $client:expr;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn talks() {
                super::talks($client);
            }

            #[test]
            fn compresses() {
                super::compresses($client);
            }

            #[test]
            fn stays() {
                super::stays($client);
            }

            #[test]
            fn leaves() {
                super::leaves($client);
            }

            #[test]
            fn is_refused() {
                super::is_refused($client);
            }
        }
    )*};
}

third_party! {
    python_websockets: Client::python("websockets", "python_websockets.py");
    python_aiohttp: Client::python("aiohttp", "python_aiohttp.py");
    node_ws: Client::node("ws", "node_ws.mjs");
}
