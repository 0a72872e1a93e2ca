//! Drains with a timeout.

use std::time::{Duration, Instant};

use tidewheel::{Cause, Running};

use crate::{
    echo::{self, Echo},
    support::{
        SLACK,
        client::{self, Client, End},
        ms, wait,
    },
};

const TIMEOUT: Duration = ms(300);

/// Starts a server whose close timeout is much longer than [`TIMEOUT`], and opens a connection.
fn start() -> (Running, Echo, Client) {
    let server = echo::builder().bind().expect("a free port");
    let address = server.address();
    let echo = Echo::default();
    let handler = echo.clone();
    let running = server.start(move |_| Ok(handler));
    let running = running.expect("io_uring is available");
    (running, echo, echo::open(address))
}

/// Asserts that the server ends [`TIMEOUT`] after `start`, and that the client is reset.
fn assert_ends(start: Instant, running: Running, mut client: Client) {
    assert!(running.join().is_ok());
    let took = start.elapsed();
    assert!(took >= TIMEOUT, "the drain ended after {took:?}");
    wait::assert_took(start, took, TIMEOUT + SLACK, "the drain");
    assert_eq!(client.end(), End::Reset);
}

#[test]
fn a_drain_resets_a_client_that_does_not_answer_at_its_timeout() {
    let (running, echo, mut client) = start();
    let start = wait::now();
    running.drain(TIMEOUT);
    assert_eq!(client.frame().close_code(), 1001);
    assert_ends(start, running, client);
    let causes = echo.causes.lock().expect("the lock is not poisoned");
    assert_eq!(*causes, [Cause::Shutdown]);
}

#[test]
fn a_drain_resets_a_connection_that_was_closing_before() {
    let (running, echo, mut client) = start();
    client.send(&client::text("close"));
    assert_eq!(client.frame().close_code(), 1000);
    let start = wait::now();
    running.drain(TIMEOUT);
    assert_ends(start, running, client);
    let causes = echo.causes.lock().expect("the lock is not poisoned");
    assert_eq!(*causes, [Cause::LocalClose]);
}

#[test]
fn a_stopped_server_reports_that_it_has_no_connection() {
    let (running, _, client) = start();
    let publisher = running.publisher();
    assert_eq!(publisher.snapshot().total().connections, 1);
    drop(running);
    let total = publisher.snapshot().total();
    assert_eq!((total.connections, total.opens), (0, 1));
    assert_eq!((total.timer_entries, total.receive_buffers_held), (0, 0));
    drop(client);
}

#[test]
fn a_drain_resets_a_client_without_a_request() {
    let (running, _, opened) = start();
    let address = opened.stream.peer_addr().expect("the server's address");
    let mut client = Client::connect_to(address).expect("the server accepts a connection");
    client.send(&client::REQUEST.as_bytes()[..20]);
    running.drain(Duration::ZERO);
    assert!(running.join().is_ok());
    let (_, end) = client.rest();
    assert_eq!(end, End::Reset);
}

#[test]
fn a_later_drain_can_end_the_server_earlier_but_not_later() {
    let (running, _, mut client) = start();
    let publisher = running.publisher();
    publisher.drain(ms(60_000));
    assert_eq!(client.frame().close_code(), 1001);
    let start = wait::now();
    publisher.drain(TIMEOUT);
    publisher.drain(ms(60_000));
    assert_ends(start, running, client);
}

#[test]
fn a_drain_ends_at_once_when_all_clients_answer() {
    let (running, _, mut client) = start();
    let start = wait::now();
    running.drain(ms(60_000));
    assert_eq!(client.frame().close_code(), 1001);
    client.send(&client::close(1001, ""));
    assert_eq!(client.end(), End::Fin);
    drop(client);
    assert!(running.join().is_ok());
    wait::assert_within(start, SLACK, "the drain");
}
