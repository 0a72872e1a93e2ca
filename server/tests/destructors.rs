//! Values of an application whose destructors panic, in each place in which a shard drops them.

use std::{cell::Cell, future, rc::Rc, time::Duration};

use tidewheel::{
    CloseCode, Conn, Disconnect, Handler, Message, Request, Response, Verdict, testing::TestServer,
};

const DELAY: Duration = Duration::from_millis(50);

/// A value whose destructor panics. It has no size, so a closure that captures it has none either.
struct Bomb;

/// Such a value with a size.
struct LargeBomb(Bomb, u8);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "in a destructor");
    }
}

/// A value whose destructor panics also while another one panics, which ends the process.
struct FatalBomb;

impl Drop for FatalBomb {
    fn drop(&mut self) {
        panic!("in a destructor");
    }
}

/// A handler that gives a [`Bomb`] to the shard in the way that a message names.
#[derive(Default)]
struct Bombs {
    /// Number of connections for which `close` was not called yet.
    open: Rc<Cell<usize>>,
}

impl Handler for Bombs {
    type State = Option<Bomb>;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<Option<Bomb>> {
        match request.path() {
            "/state" => Verdict::accept(Some(Bomb)),
            "/protocol" => Verdict::accept(Some(Bomb)).protocol("not offered"),
            "/later" => Verdict::later(async { Verdict::accept(Some(Bomb)) }),
            "/later/protocol" => {
                Verdict::later(async { Verdict::accept(Some(Bomb)).protocol("not offered") })
            }
            "/later/both" => {
                let bomb = Bomb;
                Verdict::later(async move {
                    let _bomb = bomb;
                    Verdict::accept(Some(Bomb))
                })
            }
            _ => Verdict::accept(None),
        }
    }

    fn http(&mut self, _: &Request<'_>) -> Response {
        let bomb = Bomb;
        Response::later(async move {
            let _bomb = bomb;
            Response::new(200)
        })
    }

    fn open(&mut self, _: &mut Conn<'_, Self>) {
        self.open.set(self.open.get() + 1);
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        let (word, bomb) = (message.as_text().unwrap_or_default().to_owned(), Bomb);
        match word.split_once(' ').unwrap_or((&word, "")) {
            ("timer", end) => {
                let timer = conn.after(DELAY, move |_, _| {
                    let _ = &bomb;
                });
                if let (Some(timer), "cancelled") = (timer, end) {
                    conn.cancel(timer);
                }
            }
            ("large", _) => {
                let bomb = LargeBomb(bomb, 1);
                conn.after(DELAY, move |_, _| {
                    let _ = (&bomb.0, bomb.1);
                });
            }
            ("future", "finished") => conn.spawn(async move { drop(bomb) }, |_, _, ()| ()),
            ("future", _) => {
                let task = async move {
                    let _bomb = bomb;
                    future::pending::<()>().await;
                };
                conn.spawn(task, |_, _, ()| ());
            }
            ("ordered", _) => {
                std::mem::forget(bomb);
                conn.spawn_in_order(future::pending(), |_, _, ()| ());
                for bomb in [FatalBomb, FatalBomb] {
                    conn.spawn_in_order(async move { drop(bomb) }, |_, _, ()| ());
                }
            }
            ("closure", end) => {
                let is_over = end == "finished";
                let task = async move {
                    if !is_over {
                        future::pending::<()>().await;
                    }
                };
                conn.spawn(task, move |_, _, ()| drop(bomb));
            }
            ("output", _) => conn.spawn(async move { bomb }, |_, _, bomb| drop(bomb)),
            _ => {
                std::mem::forget(bomb);
                conn.send(message);
            }
        }
        if word.ends_with("closed") {
            let _ = conn.close(CloseCode::NORMAL_CLOSURE, "");
        }
    }

    fn close(&mut self, _: &mut Conn<'_, Self>, _: &Disconnect) {
        self.open.set(self.open.get() - 1);
    }
}

impl Drop for Bombs {
    fn drop(&mut self) {
        drop(Bomb);
    }
}

fn start() -> (TestServer<Bombs>, Rc<Cell<usize>>) {
    let open = Rc::new(Cell::new(0));
    let bombs = Bombs {
        open: Rc::clone(&open),
    };
    (TestServer::new(|_| Ok(bombs)), open)
}

/// Asserts that the shard serves a connection, and drains.
fn assert_serves_and_drains(server: &TestServer<Bombs>, open: &Cell<usize>, case: &str) {
    let other = server.connect("/");
    other.say("hello");
    other.expect("hello");
    server.drain();
    assert_eq!(open.get(), 0, "{case}");
}

#[test]
fn r24_a_destructor_that_panics_does_not_end_the_shard() {
    for word in [
        "timer",
        "timer cancelled",
        "timer closed",
        "large",
        "future finished",
        "future closed",
        "future",
        "ordered closed",
        "ordered",
        "closure finished",
        "closure closed",
        "closure",
        "output",
        "output closed",
    ] {
        let (server, open) = start();
        let client = server.connect("/");
        client.say(word);
        server.advance(2 * DELAY);
        assert_serves_and_drains(&server, &open, word);
    }
}

#[test]
fn r24_a_state_or_an_answer_whose_destructor_panics_does_not_end_the_shard() {
    for path in [
        "/state",
        "/protocol",
        "/later",
        "/later/protocol",
        "/later/both",
    ] {
        let (server, open) = start();
        let _ = server.request(path).connect();
        let _ = server.get("/");
        assert_serves_and_drains(&server, &open, path);
    }
}
