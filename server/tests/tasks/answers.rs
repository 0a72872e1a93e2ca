//! Tasks that answer a request.

use std::sync::atomic::Ordering;

use crate::{
    bench::{Bench, say},
    support::{
        client::{self, Client, FIN, TEXT},
        ms,
    },
};

#[test]
fn a_verdict_may_follow_later() {
    let bench = Bench::start(|_| ());
    let mut client = bench.request("/later/accepted");
    // A frame that arrives before the verdict is read behind it.
    client.send(&client::text("early"));
    bench.wait_for("the task", |it| it.running.load(Ordering::Relaxed) == 1);
    say(&mut bench.open("/other"), "hello");
    client.send(&client::text("less early"));
    bench.allow("a");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(
        head.contains("\r\nSet-Cookie: seen=1\r\nX-Outer: 1\r\n"),
        "{head}"
    );
    client.expect(FIN | TEXT, "early");
    client.expect(FIN | TEXT, "less early");
    say(&mut client, "late");
}

#[test]
fn a_verdict_that_follows_later_refuses_or_waits_again() {
    let bench = Bench::start(|_| ());
    let mut client = bench.request("/later/refused");
    client.send(&client::text("early"));
    bench.allow("a");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    assert_eq!(client.bytes(17), br#"{"error":"token"}"#);
    assert_eq!(client.end(), client::End::Fin);
    let mut client = bench.request("/later/again");
    bench.allow("a");
    let head = client.head();
    assert!(head.contains("\r\nX-Inner: 1\r\nX-Outer: 1\r\n"), "{head}");
    say(&mut client, "hello");
}

#[test]
fn a_panic_of_a_verdict_or_of_a_response_is_answered_with_500() {
    let bench = Bench::start(|_| ());
    let mut client = bench.request("/later/panic");
    bench.allow("a");
    assert!(client.head().starts_with("HTTP/1.1 500 "));
    let mut client = Client::connect_to(bench.address).expect("the server accepts");
    client.send(b"GET /panic HTTP/1.1\r\nHost: a\r\n\r\n");
    bench.allow("a");
    assert!(client.head().starts_with("HTTP/1.1 500 "));
    say(&mut bench.open("/other"), "hello");
}

#[test]
fn a_verdict_that_takes_too_long_is_dropped_at_the_handshake_timeout() {
    let bench = Bench::start(|config| config.handshake_timeout = ms(100));
    let mut client = bench.request("/later/accepted");
    assert!(client.head().starts_with("HTTP/1.1 503 "));
    bench.wait_for("the end of the task", |it| {
        it.dropped.load(Ordering::Relaxed) == 1
    });
}

#[test]
fn a_verdict_is_dropped_when_the_client_goes() {
    let bench = Bench::start(|_| ());
    let clients: Vec<_> = (0..10).map(|_| bench.request("/later/accepted")).collect();
    bench.wait_for("the tasks", |it| it.running.load(Ordering::Relaxed) == 10);
    drop(clients);
    bench.wait_for("the end of the tasks", |it| {
        it.dropped.load(Ordering::Relaxed) == 10
    });
}

#[test]
fn a_drain_answers_undecided_requests_with_503() {
    let bench = Bench::start(|_| ());
    let mut client = bench.request("/later/accepted");
    bench.wait_for("the task", |it| it.running.load(Ordering::Relaxed) == 1);
    bench.running.publisher().drain(ms(10_000));
    assert!(client.head().starts_with("HTTP/1.1 503 "));
    bench.wait_for("the end of the task", |it| {
        it.dropped.load(Ordering::Relaxed) == 1
    });
}

#[test]
fn a_response_may_follow_later() {
    let bench = Bench::start(|_| ());
    for (method, has_body) in [("GET", true), ("HEAD", false), ("POST", true)] {
        let mut client = Client::connect_to(bench.address).expect("the server accepts");
        client.send(format!("{method} /page HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        bench.allow("a");
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains("\r\nContent-Length: 5\r\n"), "{head}");
        if has_body {
            assert_eq!(client.bytes(5), b"/page");
        }
        assert_eq!(client.end(), client::End::Fin);
    }
}
