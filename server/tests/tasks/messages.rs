//! Tasks that a message starts.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{
    bench::{Bench, ask, say},
    support::client::{self, CLOSE, Client, FIN, TEXT},
};

#[test]
fn outputs_arrive_as_the_tasks_finish() {
    let bench = Bench::start(|_| ());
    let mut client = bench.open("/");
    for text in ["gate a", "gate b", "gate c"] {
        ask(&mut client, text);
    }
    // Other messages are read meanwhile.
    say(&mut client, "hello");
    for gate in ["b", "c", "a"] {
        bench.allow(gate);
        client.expect(FIN | TEXT, gate);
    }
}

#[test]
fn outputs_in_order_arrive_in_the_order_of_the_messages() {
    let bench = Bench::start(|_| ());
    let mut client = bench.open("/");
    for text in ["ordered a", "ordered b", "ordered c", "gate c"] {
        ask(&mut client, text);
    }
    // A task outside of the order does not wait for it.
    bench.allow("c");
    client.expect(FIN | TEXT, "c");
    for gate in ["c", "b", "a"] {
        bench.allow(gate);
    }
    for gate in ["a", "b", "c"] {
        client.expect(FIN | TEXT, gate);
    }
}

#[test]
fn a_task_uses_tokio_and_tokio_uring_and_need_not_be_send() {
    let bench = Bench::start(|_| ());
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "from a file").expect("the file is writable");
    let mut client = bench.open("/");
    for _ in 0..10 {
        ask(&mut client, &format!("file {}", file.path().display()));
        client.expect(FIN | client::BINARY, "from a file");
    }
}

#[test]
fn a_task_uses_the_client_of_hyper() {
    let bench = Bench::start(|_| ());
    let mut client = bench.open("/");
    for _ in 0..3 {
        ask(&mut client, &format!("fetch {}", bench.address));
        bench.allow("a");
        client.expect(FIN | client::BINARY, "/page");
    }
}

#[test]
fn tasks_of_a_busy_server_make_progress() {
    let bench = Bench::start(|_| ());
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "from a file").expect("the file is writable");
    let [(mut one, _), (mut other, _)] = bench.open_on_two_shards();
    let (address, is_done) = (bench.address, AtomicBool::new(false));
    let is_done = &is_done;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(move || {
                let mut client = Client::connect_to(address).expect("the server accepts");
                client.send_request("/busy");
                client.accept();
                while !is_done.load(Ordering::Relaxed) {
                    say(&mut client, "hello");
                }
            });
        }
        for client in [&mut one, &mut other] {
            for _ in 0..20 {
                ask(client, &format!("file {}", file.path().display()));
                client.expect(FIN | client::BINARY, "from a file");
            }
        }
        is_done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_panic_of_a_task_or_behind_it_ends_its_connection_only() {
    let bench = Bench::start(|_| ());
    let mut other = bench.open("/other");
    for text in ["panic future", "panic then"] {
        let mut client = bench.open("/");
        ask(&mut client, text);
        let close = client.frame();
        assert_eq!((close.first, close.close_code()), (CLOSE, 1011), "{text}");
        say(&mut other, "hello");
    }
}

#[test]
fn the_closure_behind_a_task_closes_its_connection() {
    let bench = Bench::start(|_| ());
    let mut client = bench.open("/");
    ask(&mut client, "close");
    assert_eq!(client.frame().close_code(), 1000);
}

#[test]
fn a_server_with_waiting_tasks_stops() {
    let mut bench = Bench::start(|_| ());
    let mut client = bench.open("/");
    ask(&mut client, "gate a");
    say(&mut client, "hello");
    bench.running.stop();
    assert_eq!(bench.shared.dropped.load(Ordering::Relaxed), 1);
    assert_eq!(client.end(), client::End::Reset);
}
