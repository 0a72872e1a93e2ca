//! The opening handshake, and those who do not complete it.

use std::{io::Write, time::Duration};

use crate::support::{
    SLACK,
    client::{Client, End, REQUEST, text},
    ms,
    process::Server,
    raise_descriptor_limit,
    requests::{self, request},
    socket_table, wait,
};

/// R13: the second that a server has after H.
const GRACE: Duration = Duration::from_secs(1);

#[test]
fn r13_a_wrong_request_gets_its_status_and_fin() {
    let server = Server::start("");
    let cases = requests::wrong();
    for (status, request) in &cases {
        let mut client = Client::connect(&server);
        requests::assert_refused(&mut client, *status, request);
        client.finish();
        server.until_empty(SLACK);
    }
    let refused = server.metric("tidewheel_rejections_total", "");
    assert_eq!(refused, cases.len() as u64);
}

#[test]
fn r13_a_header_of_100_kb_gets_431_though_it_was_sent_whole() {
    let server = Server::start("--close-timeout 5s");
    let mut client = Client::connect(&server);
    let long = format!("X-Long: {}\r\nUpgrade", "a".repeat(100_000));
    client.send(request("Upgrade", &long).as_bytes());
    let (response, end) = client.rest();
    assert!(response.starts_with(b"HTTP/1.1 431 "));
    assert_eq!(end, End::Fin, "what is unread makes no RST");
    client.finish();
    server.until_empty(SLACK);
}

#[test]
fn r13_who_is_refused_and_stays_is_reset_at_c() {
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
fn r13_no_bytes_and_a_byte_now_and_then_end_within_h() {
    const H: Duration = ms(600);
    let server = Server::start("--handshake-timeout 600ms");
    let mut nothing = Client::connect(&server);
    let mut slowloris = Client::connect(&server);
    let start = wait::now();
    let mut bytes = REQUEST.bytes();
    while start.elapsed() < H + GRACE {
        let byte = bytes.next().expect("there are more than it has time for");
        if slowloris.stream.write_all(&[byte]).is_err() {
            break;
        }
        wait::pause(ms(10));
    }
    wait::assert_within(start, H + SLACK, "each byte buys no more time");
    nothing.rest();
    server.until_empty(SLACK);
    assert_eq!(server.metric("tidewheel_handshake_timeouts_total", ""), 2);
    socket_table::assert_no_orphans_soon(server.port());
}

#[test]
fn r13_a_thousand_attackers_cost_less_than_16_mib() {
    const H: Duration = ms(1500);
    raise_descriptor_limit();
    let server = Server::start("--handshake-timeout 1500ms --close-timeout 1s");
    // What the first connections touch, they touch for all.
    drop(Client::open_many(&server, 10));
    server.until_empty(SLACK);
    let before = server.memory("VmRSS");
    let attacks = requests::attacks();
    let mut clients: Vec<Client> = Vec::with_capacity(1000);
    for attack in attacks.iter().cycle().take(1000) {
        let mut client = Client::connect(&server);
        client.send(attack);
        clients.push(client);
    }
    let opened = wait::now();
    server.until_empty(H + GRACE);
    let cost = server.memory("VmHWM") - before;
    assert!(cost < 16 << 20, "{cost} bytes for a thousand attackers");
    for mut client in clients {
        client.rest();
    }
    wait::assert_within(opened, H + GRACE, "all are ended");
    socket_table::assert_no_orphans_soon(server.port());
}

#[test]
fn frames_right_behind_the_request_are_answered() {
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
fn a_request_and_a_message_may_come_byte_by_byte() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    for byte in [REQUEST.as_bytes(), &text("piecemeal")].concat() {
        client.send(&[byte]);
        wait::pause(ms(1));
    }
    client.accept();
    client.expect(0x81, "piecemeal");
}

#[test]
fn names_and_tokens_of_headers_are_equal_in_any_case() {
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
