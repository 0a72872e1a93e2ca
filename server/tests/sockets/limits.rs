//! Limits on connections, hosts, origins, the accept rate and the message rate, and the pace of a drain.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;

use crate::support::{
    client::{Client, End, REQUEST, text},
    invalid_requests::request,
    ms,
    process::{Server, echo},
    wait,
};

/// Sends a request with an additional header, and returns the head of the response.
fn response_head(server: &Server, header: &str) -> String {
    let mut client = Client::connect(server);
    let request = REQUEST.replace("Host: ", &format!("{header}Host: "));
    client.send(request.as_bytes());
    client.head()
}

#[test]
fn connections_over_the_limit_get_503_with_retry_after() {
    let server = Server::start("--shards 2 --max-connections 3");
    let mut clients = Client::open_many(&server, 3);
    for _ in 0..3 {
        let mut client = Client::connect(&server);
        client.send(REQUEST.as_bytes());
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert!(head.contains("\r\nRetry-After: 5\r\n"), "{head}");
        assert_eq!(client.bytes(21), b"too many connections\n");
        assert_eq!(client.end(), End::Fin);
    }
    assert_eq!(
        server.metric("tidewheel_rejections_total", "reason=\"connections\""),
        3
    );
    // Open connections are not affected, and a closed connection frees a slot.
    clients[0].send(&text("hello"));
    clients[0].expect(0x81, "hello");
    drop(clients.pop());
    server.until_connections(2);
    Client::open(&server);
}

/// A table of 48 descriptors, of which 8 are reserved, allows 40 connections on each of 4 shards. The kernel
/// does not distribute 160 clients that evenly.
#[test]
fn a_shard_without_a_free_slot_hands_connections_over() {
    for limit in ["off", "160"] {
        let flags = format!("--shards 4 --max-connections-per-address {limit}");
        let server = Server::spawn(&mut with_descriptors(48, &echo(&flags)));
        for _ in 0..2 {
            // All requests are sent before the first response is read.
            let mut clients: Vec<Client> = (0..160).map(|_| Client::connect(&server)).collect();
            for client in &mut clients {
                client.send(REQUEST.as_bytes());
            }
            for client in &mut clients {
                client.accept();
                client.send(&text("hello"));
                client.expect(0x81, "hello");
            }
            assert_eq!(server.connections(), 160);
            let head = response_head(&server, "");
            assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
            drop(clients);
            server.until_empty(ms(5000));
        }
        assert!(server.metric("tidewheel_hand_overs_total", "") > 0);
        assert_eq!(server.metric("tidewheel_accepts_total", ""), 322);
        assert_eq!(
            server.closes("reset") + server.closes("eof_without_close"),
            320
        );
        server.signal(Signal::TERM);
        let (status, log) = server.wait(ms(5000));
        assert!(status.success(), "{log}");
    }
}

/// Returns a command that runs `program` with `limit` descriptors in each table.
fn with_descriptors(limit: u32, program: &Command) -> Command {
    let mut limited = Command::new("sh");
    let script = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
    limited
        .env_clear()
        .stdin(Stdio::null())
        .args(["-c", &script]);
    limited.arg(program.get_program()).args(program.get_args());
    limited
}

#[test]
fn connections_of_one_address_over_the_limit_get_429() {
    let server = Server::start("--shards 2 --max-connections-per-address 2");
    let clients = Client::open_many(&server, 2);
    let head = response_head(&server, "");
    assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
    assert!(head.contains("\r\nRetry-After: 5\r\n"), "{head}");
    assert_eq!(
        server.metric("tidewheel_rejections_total", "reason=\"address\""),
        1
    );
    // Other addresses are not affected.
    let mut other = Client::connect_from(&server, [127, 0, 0, 9]);
    other.send(REQUEST.as_bytes());
    other.accept();
    drop(clients);
    server.until_connections(1);
    Client::open_many(&server, 2);
}

#[test]
fn connections_over_the_accept_rate_wait_and_are_accepted() {
    let server = Server::start("--shards 1 --max-accept-rate 50");
    let start = wait::now();
    let clients = Client::open_many(&server, 40);
    let elapsed = start.elapsed();
    // The server accepts a burst of 5, and then one connection every 20 ms.
    assert!(
        elapsed >= ms(35 * 20 - 30),
        "40 accepted in {elapsed:?}, too fast"
    );
    wait::assert_took(start, elapsed, ms(3000), "40 accepts");
    assert_eq!(server.connections(), 40);
    assert!(server.metric("tidewheel_accept_pauses_total", "") > 0);
    drop(clients);
}

#[test]
fn a_client_over_the_message_rate_is_closed_with_1008() {
    let server = Server::start("--shards 1 --max-message-rate 10");
    let mut client = Client::open(&server);
    // 20 messages may fall into two of the server's seconds.
    let burst: Vec<u8> = (0..21).flat_map(|_| text("again")).collect();
    client.send(&burst);
    let mut echoes = 0;
    let close = loop {
        let frame = client.frame();
        if frame.first != 0x81 {
            break frame;
        }
        echoes += 1;
    };
    // The Close may overtake echoes of the same turn.
    assert!(echoes <= 20, "{echoes} of 21 messages were echoed");
    assert_eq!(close.close_code(), 1008);
    assert_eq!(close.payload[2..], *b"too many messages");
    client.finish();
    assert_eq!(client.end(), End::Fin);
    assert_eq!(server.closes("message_rate"), 1);
}

#[test]
fn a_host_that_is_not_listed_gets_421() {
    let server = Server::start("--host 127.0.0.1,*.example.org,admin --origin same");
    for (host, status) in [
        ("127.0.0.1:8080", 101),
        ("chat.Example.org", 101),
        ("example.org", 421),
        // DNS rebinding: the host of a foreign page resolves to this server.
        ("evil.example\r\nOrigin: http://evil.example", 421),
    ] {
        let mut client = Client::connect(&server);
        client.send(request("server.example.com", host).as_bytes());
        let head = client.head();
        let expected = format!("HTTP/1.1 {status} ");
        assert!(head.starts_with(&expected), "{host}: {head}");
    }
    let refused = server.metric("tidewheel_rejections_total", "reason=\"host\"");
    assert_eq!(refused, 2);
}

#[test]
fn rejected_origins_are_logged_with_origin_and_host_at_a_limited_rate() {
    const PAGES: usize = 200;
    let server = Server::start("--origin https://*.example.org");
    for _ in 0..PAGES {
        let head = response_head(&server, "Origin: https://elsewhere.example\r\n");
        assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    }
    server.signal(Signal::TERM);
    let (_, log) = server.wait(ms(5000));
    let lines = log.lines().filter(|it| it.contains("a page was refused"));
    let lines: Vec<_> = lines.collect();
    assert!((1..PAGES / 2).contains(&lines.len()), "{log}");
    for named in ["https://elsewhere.example", "server.example.com"] {
        assert!(lines[0].contains(named), "{}", lines[0]);
    }
}

#[test]
fn a_page_of_another_origin_gets_403() {
    let server = Server::start("--origin same,https://*.example.org");
    for (origin, status) in [
        ("http://server.example.com", 101),
        ("https://www.example.org", 101),
        ("https://evil.example", 403),
        ("null", 403),
    ] {
        let head = response_head(&server, &format!("Origin: {origin}\r\n"));
        let expected = format!("HTTP/1.1 {status} ");
        assert!(head.starts_with(&expected), "{origin}: {head}");
    }
    assert!(
        response_head(&server, "").starts_with("HTTP/1.1 101 "),
        "a request without Origin was rejected"
    );
    assert_eq!(
        server.metric("tidewheel_rejections_total", "reason=\"origin\""),
        2
    );
}

#[test]
fn r16_a_drain_closes_connections_in_batches_and_ends_in_time() {
    let server = Server::start(
        "--shards 1 --close-timeout 2s --drain-batch 10 --drain-interval 50ms --drain-code 1012",
    );
    let clients = Client::open_many(&server, 100);
    let start = wait::now();
    server.signal(Signal::TERM);
    let times: Vec<Duration> = clients
        .into_iter()
        .map(|mut client| {
            let close = client.frame();
            let time = start.elapsed();
            assert_eq!(close.close_code(), 1012);
            client.send(&crate::support::client::close(1012, ""));
            client.finish();
            assert_eq!(client.end(), End::Fin);
            time
        })
        .collect();
    let last = times.iter().max().expect("100 times");
    assert!(
        *last >= ms(450 - 30),
        "ten batches 50 ms apart ended after {last:?}, too early"
    );
    let (status, log) = server.wait(ms(2800));
    assert!(status.success(), "{log}");
}

#[test]
fn r16_a_drain_ends_in_time_although_its_batches_would_take_longer() {
    let server =
        Server::start("--shards 1 --close-timeout 1s --drain-batch 1 --drain-interval 500ms");
    let clients = Client::open_many(&server, 50);
    let start = wait::now();
    server.signal(Signal::TERM);
    // No client answers.
    let (status, log) = server.wait(ms(5000));
    let elapsed = start.elapsed();
    assert!(status.success(), "{log}");
    wait::assert_took(start, elapsed, ms(1800), "the drain");
    for mut client in clients {
        assert_eq!(client.frame().close_code(), 1001);
    }
}
