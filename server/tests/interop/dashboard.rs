//! The dashboard of the admin listener in a browser.

use rustix::process::Signal;

use crate::{
    browser,
    script::Client,
    support::{
        ms,
        process::{Server, tidewheel},
    },
};

#[test]
fn the_dashboard_shows_connections_rates_a_drain_and_a_restart() {
    let Some(browser) = browser::find() else {
        return;
    };
    let flags = "--shards 2 --ping-interval 400ms --ping-timeout 10s --close-timeout 60s";
    let server = Server::start(flags);
    let admin = server.admin_address().to_string();
    let client = Client::node("ws", "dashboard.mjs");
    let Some(mut running) = client.start_with(&[&server.url(), &admin, &browser]) else {
        return;
    };
    running.wait_for("drain");
    server.signal(Signal::TERM);
    running.wait_for("restart");
    let (status, log) = server.wait(ms(30_000));
    assert!(status.success(), "the drain failed: {log}");
    let mut again = tidewheel();
    again.args(["echo", "--listen", "127.0.0.1:0", "--admin", &admin]);
    let _again = Server::spawn(again.args(["--shards", "2"]));
    running.finish();
}

#[test]
fn the_dashboard_has_headers_that_forbid_foreign_content() {
    let server = Server::start("--shards 1");
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/dashboard.css", "text/css; charset=utf-8"),
        ("/dashboard.js", "text/javascript; charset=utf-8"),
    ] {
        let response = server.admin(path);
        let (head, body) = response.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        for line in [
            &format!("content-type: {kind}"),
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; \
             connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
        ] {
            assert!(
                head.lines().any(|it| it == line),
                "{line} is not in:\n{head}"
            );
        }
        assert!(body.len() > 1000, "{path} is too short");
        // The policy forbids inline styles.
        assert!(!body.contains("<style") && !body.contains("style=\""));
    }
    assert!(server.admin("/metrics").contains("nosniff"));
    let missing = server.admin("/nothing");
    assert!(missing.starts_with("HTTP/1.1 404 "), "{missing}");
    assert!(missing.contains("a dashboard"), "{missing}");
}
