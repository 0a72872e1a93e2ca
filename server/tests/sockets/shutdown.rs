//! Signals.

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
fn r16_sigterm_tells_everybody_1001_and_ends_within_c_though_half_are_mute() {
    let server = Server::start("--close-timeout 700ms");
    let port = server.port();
    let mut mute = Client::open_many(&server, 40);
    let mut polite = Client::open_many(&server, 40);
    let in_handshake = Client::connect(&server);
    server.until_connections(81);
    let start = wait::now();
    server.signal(Signal::TERM);
    for client in &mut polite {
        assert_eq!(client.frame().close_code(), 1001);
        client.send(&close(1001, ""));
        assert_eq!(client.end(), End::Fin);
        client.finish();
    }
    for client in &mut mute {
        assert_eq!(client.frame().close_code(), 1001);
    }
    wait::assert_within(start, C, "nobody waits for those who are mute");
    let (status, log) = server.wait_since(start, C + ms(800));
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(start.elapsed() >= C, "the mute had all of C");
    for client in &mut mute {
        assert_eq!(client.end(), End::Reset);
    }
    drop(in_handshake);
    socket_table::assert_no_orphans_soon(port);
}

#[test]
fn r16_a_request_that_is_not_whole_yet_is_told_503() {
    let server = Server::start("--close-timeout 30s");
    let mut client = Client::connect(&server);
    client.send(&REQUEST.as_bytes()[..REQUEST.len() - 2]);
    // It has been read when the one behind it is answered.
    let _open = Client::open(&server);
    wait::until(SLACK, "it has been read", || {
        socket_table::held(server.port(), client.port()).unread == 0
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
fn r16_nothing_is_waited_for_when_all_answer() {
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
fn a_server_that_was_started_to_ignore_hangups_serves_on() {
    let program = echo("--shards 1");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]);
    command.arg(program.get_program()).args(program.get_args());
    let server = Server::spawn(&mut command);
    server.signal(Signal::HUP);
    let mut client = Client::open(&server);
    client.send(&text("still here"));
    client.expect(0x81, "still here");
    server.signal(Signal::TERM);
    assert_eq!(client.frame().close_code(), 1001);
    drop(client);
    let (status, log) = server.wait(ms(5000));
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn r16_a_server_without_connections_ends_at_once() {
    let server = Server::start("--close-timeout 30s");
    server.signal(Signal::TERM);
    assert_eq!(server.wait(ms(1000)).0.code(), Some(0));
}

#[test]
fn r16_while_it_drains_it_is_not_ready_and_accepts_nobody() {
    let server = Server::start("--close-timeout 30s");
    let mut client = Client::open(&server);
    assert!(server.admin("/readyz").starts_with("HTTP/1.1 200 "));
    server.signal(Signal::TERM);
    assert_eq!(client.frame().close_code(), 1001);
    assert!(server.admin("/readyz").starts_with("HTTP/1.1 503 "));
    assert!(server.admin("/healthz").starts_with("HTTP/1.1 200 "));
    // Who comes as soon as every shard has heard of it is refused, so that it goes elsewhere, and another
    // server may listen there.
    wait::until(SLACK, "nobody listens", || {
        let refused = TcpStream::connect(server.address).err();
        refused.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    let heir = Server::spawn(&mut echo_at(&server.address.to_string(), ""));
    let mut late = Client::open(&heir);
    late.send(&text("to the next one"));
    late.expect(0x81, "to the next one");
    client.send(&close(1001, ""));
    client.finish();
    assert_eq!(server.wait(ms(1000)).0.code(), Some(0));
}

#[test]
fn r16_a_second_signal_half_a_second_later_ends_it_at_once() {
    let server = Server::start("--close-timeout 30s");
    let mut client = Client::open(&server);
    server.signal(Signal::TERM);
    assert_eq!(client.frame().close_code(), 1001);
    // One that comes sooner is the same.
    wait::pause(ms(600));
    server.signal(Signal::TERM);
    let (status, log) = server.wait(ms(1000));
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("second signal"), "{log}");
    assert_eq!(client.end(), End::Reset);
}
