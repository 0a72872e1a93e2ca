//! Third-party clients and browsers against the program.
//!
//! `TIDEWHEEL_PYTHON` and `TIDEWHEEL_NODE` name the interpreters (default: `python3`, `node`), `NODE_PATH` the
//! folder of the Node.js libraries, `TIDEWHEEL_BROWSER` the browser. Without an interpreter, a library or a
//! browser, its tests are skipped with a line on standard error, or fail if `TIDEWHEEL_INTEROP=required`.

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

/// Messages, fragments, Pings and a Close with an application's code from the client.
fn messages_pings_and_close_are_answered(client: Client) {
    let server = Server::start("");
    client.run(&server.url(), "echo");
}

/// Compressed messages in both directions, large and small, text and binary.
fn compressed_messages_are_echoed(client: Client) {
    let server = Server::start("--compression on");
    client.run(&server.url(), "compression");
}

/// The client answers the server's Pings for longer than the ping timeout.
fn a_client_that_answers_pings_stays_connected(client: Client) {
    let server = Server::start("--ping-interval 200ms --ping-timeout 400ms");
    client.run(&server.url(), "keepalive");
}

/// The client answers the server's Close 1001.
fn a_drain_closes_the_client_with_1001(client: Client) {
    let server = Server::start("");
    let Some(mut running) = client.start(&server.url(), "drain") else {
        return;
    };
    running.wait_until_ready();
    server.signal(Signal::TERM);
    running.finish();
    let (status, log) = server.wait(ms(10_800));
    assert!(status.success(), "the drain failed: {log}");
}

/// The client receives the server's Close 1009 and 1007.
fn invalid_messages_get_1009_and_1007(client: Client) {
    let server = Server::start("");
    client.run(&server.url(), "too_big");
    client.run(&server.url(), "invalid_text");
}

macro_rules! third_party {
    ($($name:ident: $client:expr;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn messages_pings_and_close_are_answered() {
                super::messages_pings_and_close_are_answered($client);
            }

            #[test]
            fn compressed_messages_are_echoed() {
                super::compressed_messages_are_echoed($client);
            }

            #[test]
            fn a_client_that_answers_pings_stays_connected() {
                super::a_client_that_answers_pings_stays_connected($client);
            }

            #[test]
            fn a_drain_closes_the_client_with_1001() {
                super::a_drain_closes_the_client_with_1001($client);
            }

            #[test]
            fn invalid_messages_get_1009_and_1007() {
                super::invalid_messages_get_1009_and_1007($client);
            }
        }
    )*};
}

third_party! {
    python_websockets: Client::python("websockets", "python_websockets.py");
    python_aiohttp: Client::python("aiohttp", "python_aiohttp.py");
    node_ws: Client::node("ws", "node_ws.mjs");
}
