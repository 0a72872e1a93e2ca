//! The limits of tasks.

use std::sync::atomic::Ordering;

use crate::{
    bench::{Bench, ask, say},
    support::{
        client::{Client, FIN, TEXT},
        ms, wait,
    },
};

#[test]
fn work_of_clients_that_have_gone_counts_for_the_bound_of_the_shard() {
    let bench = Bench::start(|config| {
        config.shards = Some(1);
        config.max_tasks = 4;
    });
    for number in 1..=4 {
        let mut client = bench.open("/");
        ask(&mut client, "gate a");
        bench.wait_for("the task", |it| {
            it.running.load(Ordering::Relaxed) == number
        });
        client.reset();
    }
    let head = bench.request("/").head();
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(head.contains("\r\nRetry-After: 1\r\n"), "{head}");
    bench.allow("a");
    bench.wait_for("the end of one task", |it| {
        it.running.load(Ordering::Relaxed) == 3
    });
    wait::until(ms(10_000), "a place for another task", || {
        bench.request("/").head().starts_with("HTTP/1.1 101 ")
    });
}

#[test]
fn a_connection_with_too_many_tasks_is_not_read_until_one_has_finished() {
    let bench = Bench::start(|config| config.max_tasks_per_connection = 3);
    let (mut client, mut other) = (bench.open("/"), bench.open("/other"));
    for _ in 0..10 {
        ask(&mut client, "gate a");
    }
    ask(&mut client, "last");
    bench.wait_for("three tasks", |it| it.running.load(Ordering::Relaxed) == 3);
    ask(&mut other, "gate b");
    say(&mut other, "hello");
    // The last message is read when at most two tasks are left.
    for _ in 0..8 {
        bench.allow("a");
        client.expect(FIN | TEXT, "a");
    }
    client.expect(FIN | TEXT, "last");
    for _ in 0..2 {
        bench.allow("a");
        client.expect(FIN | TEXT, "a");
    }
    let most = bench.shared.most_running.load(Ordering::Relaxed);
    assert!(most <= 4, "{most} tasks ran at the same time");
}

#[test]
fn a_shard_with_too_many_tasks_reads_only_connections_without_a_task() {
    let bench = Bench::start(|config| config.max_tasks = 4);
    let [(mut one, _), (mut other, _)] = bench.open_on_two_shards();
    for client in [&mut one, &mut other] {
        for _ in 0..10 {
            ask(client, "gate a");
        }
    }
    bench.wait_for("four tasks on each shard", |it| {
        it.running.load(Ordering::Relaxed) == 8
    });
    for _ in 0..20 {
        bench.allow("a");
    }
    for client in [&mut one, &mut other] {
        for _ in 0..10 {
            client.expect(FIN | TEXT, "a");
        }
    }
    assert_eq!(bench.shared.most_running.load(Ordering::Relaxed), 8);
}

#[test]
fn a_request_that_needs_one_task_too_many_gets_503() {
    let bench = Bench::start(|config| config.max_tasks = 2);
    let mut clients: Vec<_> = (0..20).map(|_| bench.request("/later/accepted")).collect();
    bench.wait_for("two tasks on each shard", |it| {
        it.running.load(Ordering::Relaxed) == 4
    });
    (0..4).for_each(|_| bench.allow("a"));
    let heads = clients.iter_mut().map(Client::head);
    let accepted = heads.filter(|head| match head.starts_with("HTTP/1.1 101 ") {
        true => true,
        false => {
            assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
            assert!(head.contains("\r\nRetry-After: 1\r\n"), "{head}");
            false
        }
    });
    assert_eq!(accepted.count(), 4);
}

#[test]
fn a_server_without_tasks_refuses_them_and_serves() {
    let bench = Bench::start(|config| config.max_tasks = 0);
    let mut client = bench.open("/");
    ask(&mut client, "gate a");
    assert_eq!(client.frame().close_code(), 1011);
    let mut client = bench.request("/later/accepted");
    assert!(client.head().starts_with("HTTP/1.1 503 "));
    say(&mut bench.open("/"), "hello");
}
