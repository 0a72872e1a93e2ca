//! Destructors of the application that panic: in futures, and in closures.

use std::{future::pending, time::Duration};

use tidewheel::{
    CloseCode, Conn, Handler, Message, Request, Response, Verdict, testing::TestServer,
};

/// A value whose destructor panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "requested by a test");
    }
}

/// A handler of which each message starts something whose destructor panics.
struct Bombs;

impl Handler for Bombs {
    type State = ();

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<()> {
        if request.path() != "/later" {
            return Verdict::accept(());
        }
        let bomb = Bomb;
        Verdict::later(async move {
            let _bomb = bomb;
            pending().await
        })
    }

    fn http(&mut self, _: &Request<'_>) -> Response {
        let bomb = Bomb;
        Response::later(async move {
            let _bomb = bomb;
            pending().await
        })
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        let bomb = Bomb;
        match message.as_text() {
            Some("timer") => {
                conn.after(Duration::from_millis(20), move |_, conn| {
                    let _ = &bomb;
                    conn.send("expired");
                });
            }
            Some("task") => conn.spawn(async {}, move |_, conn, ()| {
                let _bomb = bomb;
                conn.send("finished");
            }),
            _ => {
                std::mem::forget(bomb);
                conn.send(message);
            }
        }
    }
}

#[test]
fn a_future_that_is_refused_because_the_shard_has_too_many_tasks_ends_only_its_request() {
    let configure = |config: &mut tidewheel::Config| config.max_tasks = 1;
    let server = TestServer::configured(configure, |_| Ok(Bombs));
    let other = server.connect("/");
    let _first = server.request("/later").begin();
    server.advance(Duration::from_millis(100));
    let refused = server.request("/later").connect().expect_err("too many");
    assert_eq!(refused.status, 503);
    assert_eq!(server.get("/").status, 503);
    other.say("echo");
    other.expect("echo");
}

#[test]
fn a_closure_ends_only_its_connection() {
    let server = TestServer::new(|_| Ok(Bombs));
    let other = server.connect("/");
    for (command, answer) in [("timer", "expired"), ("task", "finished")] {
        let client = server.connect("/");
        client.say(command);
        client.expect(answer);
        client.expect_close(CloseCode::INTERNAL_ERROR);
    }
    other.say("echo");
    other.expect("echo");
}

#[test]
fn a_future_or_closure_of_a_client_that_goes_ends_nothing() {
    let server = TestServer::new(|_| Ok(Bombs));
    let other = server.connect("/");
    let undecided = server.request("/later").begin();
    let waiting = server.connect("/");
    waiting.say("timer");
    server.advance(Duration::from_millis(10));
    undecided.reset();
    waiting.reset();
    server.advance(Duration::from_millis(100));
    assert_eq!(server.connections(), 1);
    other.say("echo");
    other.expect("echo");
}
