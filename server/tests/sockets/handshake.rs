//! The opening handshake: valid, invalid and incomplete requests.

use std::{io::Write, time::Duration};

use rustix::process::Signal;

use crate::support::{
    SLACK,
    client::{Client, End, REQUEST, text},
    invalid_requests::{self, request},
    ms,
    process::{Server, echo},
    raise_descriptor_limit, socket_table, wait,
};

/// R13: time that the server has after H.
const GRACE: Duration = Duration::from_secs(1);

#[test]
fn r13_an_invalid_request_gets_its_status_and_fin() {
    let server = Server::start("");
    let cases = invalid_requests::all();
    for (status, request) in &cases {
        let mut client = Client::connect(&server);
        invalid_requests::assert_refused(&mut client, *status, request);
        client.finish();
        server.until_empty(SLACK);
    }
    let refused = server.metric("tidewheel_rejections_total", "");
    assert_eq!(refused, cases.len() as u64);
}

#[test]
fn r13_a_header_of_100_kb_gets_431_and_fin_although_it_was_sent_whole() {
    let server = Server::start("--close-timeout 5s");
    let mut client = Client::connect(&server);
    let long = format!("X-Long: {}\r\nUpgrade", "a".repeat(100_000));
    client.send(request("Upgrade", &long).as_bytes());
    let (response, end) = client.rest();
    assert!(response.starts_with(b"HTTP/1.1 431 "));
    assert_eq!(end, End::Fin, "unread bytes caused RST");
    client.finish();
    server.until_empty(SLACK);
}

#[test]
fn r13_a_rejected_client_that_sends_no_fin_is_reset_at_c() {
    let server = Server::start("--close-timeout 300ms");
    let mut client = Client::connect(&server);
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let (response, end) = client.rest();
    assert!(response.starts_with(b"HTTP/1.1 426 "));
    assert_eq!(end, End::Fin);
    server.until_empty(ms(300) + SLACK);
    socket_table::assert_no_orphans_soon(server.port());
}

#[test]
fn r13_clients_that_send_nothing_or_one_byte_at_a_time_are_closed_within_h() {
    const H: Duration = ms(600);
    let server = Server::start("--handshake-timeout 600ms");
    let mut nothing = Client::connect(&server);
    let mut slow = Client::connect(&server);
    let start = wait::now();
    let mut bytes = REQUEST.bytes();
    while start.elapsed() < H + GRACE {
        let byte = bytes.next().expect("the request is longer than H allows");
        if slow.stream.write_all(&[byte]).is_err() {
            break;
        }
        wait::pause(ms(10));
    }
    wait::assert_within(start, H + SLACK, "the end of a slow request");
    nothing.rest();
    server.until_empty(SLACK);
    assert_eq!(server.metric("tidewheel_handshake_timeouts_total", ""), 2);
    socket_table::assert_no_orphans_soon(server.port());
}

#[test]
fn r13_a_thousand_unfinished_requests_cost_less_than_16_mib() {
    const H: Duration = ms(1500);
    raise_descriptor_limit();
    let server = Server::start("--handshake-timeout 1500ms --close-timeout 1s");
    // The first connections make the server allocate memory that later ones share.
    drop(Client::open_many(&server, 10));
    server.until_empty(SLACK);
    let before = server.memory("VmRSS");
    let requests = invalid_requests::unfinished();
    let mut clients: Vec<Client> = Vec::with_capacity(1000);
    for request in requests.iter().cycle().take(1000) {
        let mut client = Client::connect(&server);
        client.send(request);
        clients.push(client);
    }
    let opened = wait::now();
    server.until_empty(H + GRACE);
    let cost = server.memory("VmHWM") - before;
    assert!(cost < 16 << 20, "{cost} bytes for 1,000 requests");
    for mut client in clients {
        client.rest();
    }
    wait::assert_within(opened, H + GRACE, "the end of all connections");
    socket_table::assert_no_orphans_soon(server.port());
}

#[test]
fn messages_in_the_same_segment_as_the_request_are_answered() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    let messages: Vec<String> = (0..100).map(|at| format!("message {at}")).collect();
    let mut bytes = REQUEST.as_bytes().to_vec();
    for message in &messages {
        bytes.extend(text(message));
    }
    client.send(&bytes);
    client.accept();
    for message in &messages {
        client.expect(0x81, message);
    }
}

#[test]
fn a_request_and_a_message_that_arrive_byte_by_byte_are_answered() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    for byte in [REQUEST.as_bytes(), &text("hello")].concat() {
        client.send(&[byte]);
        wait::pause(ms(1));
    }
    client.accept();
    client.expect(0x81, "hello");
}

#[test]
fn header_names_and_tokens_are_case_insensitive() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.send(
        request("Upgrade: websocket", "UPGRADE: WebSocket")
            .replace("Connection: Upgrade", "connection: keep-alive, upgrade")
            .as_bytes(),
    );
    client.accept();
    client.send(&text("hello"));
    client.expect(0x81, "hello");
}

#[test]
fn the_log_has_the_client_that_a_trusted_proxy_names() {
    let mut command = echo("--trusted-proxies 127.0.0.1");
    let server = Server::spawn(command.env("TIDEWHEEL_LOG", "info,tidewheel::handshake=debug"));
    let mut client = Client::connect(&server);
    let field = "\r\nX-Forwarded-For: 203.0.113.9, 198.51.100.7\r\n\r\n";
    client.send(REQUEST.replace("\r\n\r\n", field).as_bytes());
    client.accept();
    drop(client);
    server.signal(Signal::TERM);
    let (_, log) = server.wait(ms(5000));
    let has_client = |line: &str| line.contains(" client=198.51.100.7 ");
    let mut lines = log
        .lines()
        .filter(|line| line.contains("tidewheel::handshake"));
    assert!(lines.any(has_client), "{log}");
}
