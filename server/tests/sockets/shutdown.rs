//! Drains, started by signals.

use std::{io::ErrorKind, net::TcpStream, process::Command, time::Duration};

use rustix::process::Signal;

use crate::support::{
    SLACK,
    client::{Client, End, REQUEST, close, text},
    ms,
    process::{Server, echo, echo_at},
    socket_table, wait,
};

const C: Duration = ms(700);

#[test]
fn r16_sigterm_closes_all_with_1001_and_ends_within_c_although_half_do_not_answer() {
    let server = Server::start("--close-timeout 700ms");
    let port = server.port();
    let mut silent = Client::open_many(&server, 40);
    let mut answering = Client::open_many(&server, 40);
    let in_handshake = Client::connect(&server);
    server.until_connections(81);
    let start = wait::now();
    server.signal(Signal::TERM);
    for client in &mut answering {
        assert_eq!(client.frame().close_code(), 1001);
        client.send(&close(1001, ""));
        assert_eq!(client.end(), End::Fin);
        client.finish();
    }
    for client in &mut silent {
        assert_eq!(client.frame().close_code(), 1001);
    }
    wait::assert_within(start, C, "the Close to all clients");
    let (status, log) = server.wait_since(start, C + ms(800));
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(start.elapsed() >= C, "the process exited before C");
    for client in &mut silent {
        assert_eq!(client.end(), End::Reset);
    }
    drop(in_handshake);
    socket_table::assert_no_orphans_soon(port);
}

#[test]
fn r16_an_incomplete_request_gets_503() {
    let server = Server::start("--close-timeout 30s");
    let mut client = Client::connect(&server);
    client.send(&REQUEST.as_bytes()[..REQUEST.len() - 2]);
    // Bytes of an earlier connection are read before the handshake of a later one.
    let _open = Client::open(&server);
    wait::until(SLACK, "the request is read", || {
        socket_table::socket(server.port(), client.port()).unread == 0
    });
    server.signal(Signal::TERM);
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(head.contains("\r\nRetry-After: 1\r\n"), "{head}");
    assert!(client.rest().1 == End::Fin);
    let refused = server.metric("tidewheel_rejections_total", "reason=\"shutdown\"");
    assert_eq!(refused, 1);
}

#[test]
fn r16_a_drain_ends_at_once_when_all_clients_answer() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let server = Server::start("--close-timeout 30s");
        let mut clients = Client::open_many(&server, 10);
        server.signal(signal);
        for client in &mut clients {
            assert_eq!(client.frame().close_code(), 1001);
            client.send(&close(1001, ""));
            client.finish();
        }
        let (status, log) = server.wait(ms(1000));
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

#[test]
fn a_server_started_with_sighup_ignored_continues_after_sighup() {
    let program = echo("--shards 1");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]);
    command.arg(program.get_program()).args(program.get_args());
    let server = Server::spawn(&mut command);
    server.signal(Signal::HUP);
    let mut client = Client::open(&server);
    client.send(&text("hello"));
    client.expect(0x81, "hello");
    server.signal(Signal::TERM);
    assert_eq!(client.frame().close_code(), 1001);
    drop(client);
    let (status, log) = server.wait(ms(5000));
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn r16_a_drain_without_connections_ends_at_once() {
    let server = Server::start("--close-timeout 30s");
    server.signal(Signal::TERM);
    assert_eq!(server.wait(ms(1000)).0.code(), Some(0));
}

#[test]
fn r16_a_draining_server_is_not_ready_and_refuses_connections() {
    let server = Server::start("--close-timeout 30s");
    let mut client = Client::open(&server);
    assert!(server.admin("/readyz").starts_with("HTTP/1.1 200 "));
    server.signal(Signal::TERM);
    assert_eq!(client.frame().close_code(), 1001);
    assert!(server.admin("/readyz").starts_with("HTTP/1.1 503 "));
    assert!(server.admin("/healthz").starts_with("HTTP/1.1 200 "));
    // All shards close tsuccessor listeners, so that clients connect elsewhere and another server can bind the
    // address.
    wait::until(SLACK, "connections are refused", || {
        let refused = TcpStream::connect(server.address).err();
        refused.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    let successor = Server::spawn(&mut echo_at(&server.address.to_string(), ""));
    let mut late = Client::open(&successor);
    late.send(&text("hello"));
    late.expect(0x81, "hello");
    client.send(&close(1001, ""));
    client.finish();
    assert_eq!(server.wait(ms(1000)).0.code(), Some(0));
}

#[test]
fn r16_a_second_signal_half_a_second_later_ends_the_process_at_once() {
    let server = Server::start("--close-timeout 30s");
    let mut client = Client::open(&server);
    server.signal(Signal::TERM);
    assert_eq!(client.frame().close_code(), 1001);
    // A signal within 500 ms would count as the same.
    wait::pause(ms(600));
    server.signal(Signal::TERM);
    let (status, log) = server.wait(ms(1000));
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("second signal"), "{log}");
    assert_eq!(client.end(), End::Reset);
}
