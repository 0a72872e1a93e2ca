//! Limits on who may come in, how fast, and how much they may say.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;

use crate::support::{
    client::{Client, End, REQUEST, text},
    ms,
    process::{Server, echo},
    requests::request,
    wait,
};

/// Asks for a WebSocket, and gives the head of the answer.
fn asked(server: &Server, header: &str) -> String {
    let mut client = Client::connect(server);
    let request = REQUEST.replace("Host: ", &format!("{header}Host: "));
    client.send(request.as_bytes());
    client.head()
}

#[test]
fn one_connection_too_many_is_told_503_and_when_to_try_again() {
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
    // Those who are in do not notice, and who leaves makes room.
    clients[0].send(&text("still here"));
    clients[0].expect(0x81, "still here");
    drop(clients.pop());
    server.until_connections(2);
    Client::open(&server);
}

/// With a table of 48, of which 8 are kept, each of four shards has room for 40. That the kernel deals
/// out 160 clients so evenly does not happen.
#[test]
fn a_shard_that_is_full_hands_over_who_comes() {
    for limit in ["off", "160"] {
        let flags = format!("--shards 4 --max-connections-per-address {limit}");
        let server = Server::spawn(&mut with_descriptors(48, &echo(&flags)));
        for _ in 0..2 {
            // All at once, as far as a client can.
            let mut clients: Vec<Client> = (0..160).map(|_| Client::connect(&server)).collect();
            for client in &mut clients {
                client.send(REQUEST.as_bytes());
            }
            for client in &mut clients {
                client.accept();
                client.send(&text("anybody"));
                client.expect(0x81, "anybody");
            }
            assert_eq!(server.connections(), 160);
            let head = asked(&server, "");
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

/// The same program with so many descriptors in each table.
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
fn an_address_has_its_own_limit() {
    let server = Server::start("--shards 2 --max-connections-per-address 2");
    let clients = Client::open_many(&server, 2);
    let head = asked(&server, "");
    assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
    assert!(head.contains("\r\nRetry-After: 5\r\n"), "{head}");
    assert_eq!(
        server.metric("tidewheel_rejections_total", "reason=\"address\""),
        1
    );
    // Another address is another matter.
    let mut other = Client::connect_from(&server, [127, 0, 0, 9]);
    other.send(REQUEST.as_bytes());
    other.accept();
    drop(clients);
    server.until_connections(1);
    Client::open_many(&server, 2);
}

#[test]
fn connections_beyond_the_accept_rate_wait_and_are_not_lost() {
    let server = Server::start("--shards 1 --max-accept-rate 50");
    let start = wait::now();
    let clients = Client::open_many(&server, 40);
    let elapsed = start.elapsed();
    // A burst of 5, and then one every 20 ms.
    assert!(elapsed >= ms(35 * 20 - 30), "{elapsed:?} for 40");
    wait::assert_took(start, elapsed, ms(3000), "40 are let in");
    assert_eq!(server.connections(), 40);
    assert!(server.metric("tidewheel_accept_pauses_total", "") > 0);
    drop(clients);
}

#[test]
fn who_says_too_much_is_closed_with_1008() {
    let server = Server::start("--shards 1 --max-message-rate 10");
    let mut client = Client::open(&server);
    // Twice ten may fall into two of the server's seconds.
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
    // The Close overtakes echoes of the same turn.
    assert!(echoes <= 20, "{echoes} of 21");
    assert_eq!(close.close_code(), 1008);
    assert_eq!(close.payload[2..], *b"too many messages");
    client.finish();
    assert_eq!(client.end(), End::Fin);
    assert_eq!(server.closes("message_rate"), 1);
}

#[test]
fn a_host_that_is_not_listed_is_told_421() {
    let server = Server::start("--host 127.0.0.1,*.example.org,admin --origin same");
    for (host, status) in [
        ("127.0.0.1:8080", 101),
        ("chat.Example.org", 101),
        ("example.org", 421),
        // A page that has changed the address of its own host: DNS rebinding.
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
fn refused_pages_are_logged_with_origin_and_host_and_not_each() {
    const PAGES: usize = 200;
    let server = Server::start("--origin https://*.example.org");
    for _ in 0..PAGES {
        let head = asked(&server, "Origin: https://elsewhere.example\r\n");
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
fn a_page_of_another_origin_is_told_403() {
    let server = Server::start("--origin same,https://*.example.org");
    for (origin, status) in [
        ("http://server.example.com", 101),
        ("https://www.example.org", 101),
        ("https://evil.example", 403),
        ("null", 403),
    ] {
        let head = asked(&server, &format!("Origin: {origin}\r\n"));
        let expected = format!("HTTP/1.1 {status} ");
        assert!(head.starts_with(&expected), "{origin}: {head}");
    }
    assert!(
        asked(&server, "").starts_with("HTTP/1.1 101 "),
        "no browser"
    );
    assert_eq!(
        server.metric("tidewheel_rejections_total", "reason=\"origin\""),
        2
    );
}

#[test]
fn r16_a_drain_tells_clients_in_batches_and_ends_in_time() {
    let server = Server::start(
        "--shards 1 --close-timeout 2s --drain-batch 10 --drain-interval 50ms --drain-code 1012",
    );
    let clients = Client::open_many(&server, 100);
    let start = wait::now();
    server.signal(Signal::TERM);
    let told: Vec<Duration> = clients
        .into_iter()
        .map(|mut client| {
            let close = client.frame();
            let told = start.elapsed();
            assert_eq!(close.close_code(), 1012);
            client.send(&crate::support::client::close(1012, ""));
            client.finish();
            assert_eq!(client.end(), End::Fin);
            told
        })
        .collect();
    let last = told.iter().max().expect("a hundred were told");
    assert!(*last >= ms(450 - 30), "ten batches, 50 ms apart: {last:?}");
    let (status, log) = server.wait(ms(2800));
    assert!(status.success(), "{log}");
}

#[test]
fn r16_a_drain_ends_in_time_though_its_batches_would_take_longer() {
    let server =
        Server::start("--shards 1 --close-timeout 1s --drain-batch 1 --drain-interval 500ms");
    let clients = Client::open_many(&server, 50);
    let start = wait::now();
    server.signal(Signal::TERM);
    // Nobody answers.
    let (status, log) = server.wait(ms(5000));
    let elapsed = start.elapsed();
    assert!(status.success(), "{log}");
    wait::assert_took(start, elapsed, ms(1800), "C and 0.8 s");
    for mut client in clients {
        assert_eq!(client.frame().close_code(), 1001);
    }
}
