//! Tasks of connections that have ended.

use std::sync::atomic::Ordering;

use crate::{
    bench::{Bench, ask, close, say},
    support::{
        client::{self, Client},
        ms, wait,
    },
};

#[test]
fn work_goes_on_when_its_client_has_gone() {
    for ends in [close, Client::reset] {
        let bench = Bench::start(|config| config.shards = Some(1));
        let mut client = bench.open("/");
        for text in ["gate a", "gate b", "ordered a", "ordered b"] {
            ask(&mut client, text);
        }
        say(&mut client, "hello");
        ends(client);
        bench.wait_for_no_connections();
        // The next connection in the slot gets no output of the work.
        let mut next = bench.open("/");
        for gate in ["a", "a", "b", "b"] {
            bench.allow(gate);
        }
        bench.wait_for("the end of the work", |it| {
            it.finished.load(Ordering::Relaxed) == 4
        });
        say(&mut next, "hello");
    }
}

#[test]
fn a_close_callback_starts_work() {
    for ends in [close, Client::reset] {
        let bench = Bench::start(|_| ());
        ends(bench.open("/last"));
        bench.wait_for_no_connections();
        bench.allow("a");
        bench.wait_for("the end of the work", |it| {
            it.finished.load(Ordering::Relaxed) == 1
        });
    }
}

#[test]
fn a_drain_waits_for_the_work_that_its_close_callbacks_start() {
    let bench = Bench::start(|_| ());
    let clients = [bench.open("/last"), bench.open("/last")];
    bench.running.publisher().drain(ms(10_000));
    for mut client in clients {
        assert_eq!(client.frame().close_code(), 1001);
        client.send(&client::close(1001, ""));
        client.finish();
    }
    bench.wait_for("the work", |it| it.running.load(Ordering::Relaxed) == 2);
    (0..2).for_each(|_| bench.allow("a"));
    let shared = bench.join();
    assert_eq!(shared.finished.load(Ordering::Relaxed), 2);
}

#[test]
fn work_is_dropped_at_the_close_timeout_after_its_connection_has_ended() {
    let bench = Bench::start(|config| config.close_timeout = ms(200));
    let mut client = bench.open("/");
    for text in ["gate a", "gate b", "ordered a", "ordered b"] {
        ask(&mut client, text);
    }
    say(&mut client, "hello");
    client.reset();
    bench.wait_for("the end of the tasks", |it| {
        it.running.load(Ordering::Relaxed) == 0
    });
    assert_eq!(bench.shared.finished.load(Ordering::Relaxed), 0);
}

#[test]
fn a_drain_waits_for_work_of_connections_that_have_ended() {
    let bench = Bench::start(|_| ());
    let mut client = bench.open("/");
    ask(&mut client, "gate a");
    say(&mut client, "hello");
    client.reset();
    bench.wait_for_no_connections();
    bench.running.publisher().drain(ms(10_000));
    // The listening sockets are closed before the drain ends.
    wait::until(ms(10_000), "the start of the drain", || {
        Client::connect_to(bench.address).is_err()
    });
    bench.allow("a");
    let shared = bench.join();
    assert_eq!(shared.finished.load(Ordering::Relaxed), 1);
}

#[test]
fn a_drain_drops_work_at_its_timeout() {
    let bench = Bench::start(|_| ());
    let (mut gone, mut left) = (bench.open("/"), bench.open("/"));
    for client in [&mut gone, &mut left] {
        ask(client, "gate a");
        say(client, "hello");
    }
    gone.reset();
    bench.running.publisher().drain(ms(300));
    let shared = bench.join();
    assert_eq!(shared.finished.load(Ordering::Relaxed), 0);
    assert_eq!(shared.running.load(Ordering::Relaxed), 0);
}
