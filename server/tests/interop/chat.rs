//! The chat on one page, in two browsers, started as README says.

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

/// The flags of README, with an address of the kernel's choosing at first.
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
fn carries_what_is_said_as_text_and_outlives_the_server() {
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
    assert!(status.success(), "the drain has ended well: {log}");
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
fn is_told_when_the_server_does_not_let_it_in() {
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
