//! `examples/chat.html` in two browsers, with the server of README.

use rustix::process::Signal;

use crate::{
    browser,
    script::Client,
    support::{
        ms,
        process::{Server, tidewheel},
    },
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/chat.html");

/// Starts a server with the flags of README on an address.
fn serve(listen: &str) -> Server {
    Server::spawn(tidewheel().args([
        "serve",
        "--listen",
        listen,
        "--admin",
        "127.0.0.1:0",
        "--origin",
        "null",
    ]))
}

#[test]
fn the_chat_shows_messages_as_text_and_reconnects_after_restarts() {
    let Some(browser) = browser::find() else {
        return;
    };
    let server = serve("127.0.0.1:0");
    let address = server.address.to_string();
    let client = Client::node("ws", "chat.mjs");
    let Some(mut running) = client.start_with(&[PAGE, &address, &browser]) else {
        return;
    };
    running.wait_for("stop");
    server.signal(Signal::TERM);
    let (status, log) = server.wait(ms(30_000));
    assert!(status.success(), "the drain failed: {log}");
    running.wait_for("start");
    let again = serve(&address);
    running.wait_for("kill");
    again.signal(Signal::KILL);
    again.wait(ms(30_000));
    running.wait_for("start");
    let _last = serve(&address);
    running.finish();
}

#[test]
fn the_chat_shows_that_the_server_rejects_its_origin() {
    let Some(browser) = browser::find() else {
        return;
    };
    let server = Server::spawn(&mut crate::support::process::serve(""));
    let client = Client::node("ws", "chat.mjs");
    let address = server.address.to_string();
    if let Some(running) = client.start_with(&[PAGE, &address, &browser, "refused"]) {
        running.finish();
        assert!(server.metric("tidewheel_rejections_total", "reason=\"origin\"") > 0);
    }
}
