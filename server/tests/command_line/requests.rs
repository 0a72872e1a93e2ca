//! Options that decide about requests and messages.

use rustix::process::Signal;

use crate::{
    config_file,
    support::{
        client::{BINARY, Client, FIN, REQUEST, TEXT, binary, text},
        ms,
        process::{Server, echo, serve},
    },
};

/// Returns the head of the response to a request with additional headers.
fn response_head(server: &Server, headers: &str) -> String {
    let mut client = Client::connect(server);
    let end = "Sec-WebSocket-Version: 13\r\n";
    client.send(REQUEST.replace(end, &format!("{end}{headers}")).as_bytes());
    client.head()
}

#[test]
fn the_first_configured_subprotocol_that_the_client_offers_is_selected() {
    let file = config_file("subprotocol = ['chat.v2', 'chat.v1']\n");
    let in_file = format!("--config {}", file.path().display());
    for flags in [
        "--subprotocol chat.v2,chat.v1",
        "--subprotocol chat.v2 --subprotocol chat.v1",
        &in_file,
    ] {
        for mut command in [echo(flags), serve(flags)] {
            let server = Server::spawn(&mut command);
            for (offered, expected) in [
                ("", None),
                ("Sec-WebSocket-Protocol: chat.v1\r\n", Some("chat.v1")),
                ("Sec-WebSocket-Protocol: chat.v2\r\n", Some("chat.v2")),
                ("Sec-WebSocket-Protocol: mqtt\r\n", None),
                ("Sec-WebSocket-Protocol: CHAT.V1\r\n", None),
                (
                    "Sec-WebSocket-Protocol: chat.v1, chat.v2\r\n",
                    Some("chat.v2"),
                ),
                (
                    "Sec-WebSocket-Protocol: mqtt,chat.v1, soap\r\n",
                    Some("chat.v1"),
                ),
                (
                    "Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Protocol: chat.v1\r\n",
                    Some("chat.v1"),
                ),
            ] {
                let head = response_head(&server, offered).to_ascii_lowercase();
                assert!(head.starts_with("http/1.1 101 "), "{offered}: {head}");
                let name = "sec-websocket-protocol: ";
                let selected: Vec<&str> = head
                    .lines()
                    .filter_map(|it| it.strip_prefix(name))
                    .collect();
                assert_eq!(selected, Vec::from_iter(expected), "{flags}, {offered}");
            }
        }
    }
    // Without the option, the server selects none.
    for mut command in [echo(""), serve("")] {
        let server = Server::spawn(&mut command);
        let head =
            response_head(&server, "Sec-WebSocket-Protocol: chat.v1\r\n").to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(!head.contains("sec-websocket-protocol"), "{head}");
    }
}

#[test]
fn requests_over_the_size_or_header_limit_get_431() {
    let padding = |bytes: usize| format!("X-Padding: {}\r\n", "x".repeat(bytes - 13));
    let with_headers = |count: usize| "X-A: b\r\n".repeat(count - 5);
    let limit = 512;
    let room = limit - REQUEST.len();
    for mut command in [echo, serve].map(|it| it("--max-request-size 512 --max-request-headers 7"))
    {
        let server = Server::spawn(&mut command);
        for (headers, status) in [
            (padding(room), 101),
            (padding(room + 1), 431),
            (with_headers(7), 101),
            (with_headers(8), 431),
        ] {
            let head = response_head(&server, &headers);
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        }
    }
    let server = Server::start("--max-request-size 64KiB --max-request-headers 128");
    for (headers, status) in [
        (with_headers(128), 101),
        (padding(60_000), 101),
        (with_headers(129), 431),
    ] {
        let head = response_head(&server, &headers);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
}

#[test]
fn the_echo_parameter_is_true_or_false_in_any_case() {
    let server = Server::spawn(&mut serve("--shards 1"));
    for (query, status) in [
        ("", 101),
        ("?echo=true", 101),
        ("?echo=True", 101),
        ("?echo=false", 101),
        ("?echo=False", 101),
        ("?a=b&echo=FALSE", 101),
        ("?echo=%66alse", 101),
        ("?Echoes=false&e=1", 101),
        ("?echo=no", 400),
        ("?echo=", 400),
        ("?echo", 400),
        ("?Echo=false", 400),
        ("?a=b&%45cho=false", 400),
        ("?echo=true&echo=true", 400),
    ] {
        let mut client = Client::connect(&server);
        client.send(
            REQUEST
                .replace("/chat", &format!("/chat{query}"))
                .as_bytes(),
        );
        let head = client.head();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{query}: {head}"
        );
        if status == 101 {
            client.send(&text(query));
            // Without an echo, the next message is that of the other client.
            let mut other = Client::open(&server);
            let no_echo = ["?echo=%66alse", "echo=false"];
            if !no_echo
                .iter()
                .any(|it| query.to_ascii_lowercase().contains(it))
            {
                client.expect(FIN | TEXT, query);
            }
            other.send(&text("other"));
            client.expect(FIN | TEXT, "other");
        }
    }
}

#[test]
fn rejected_origins_are_counted_in_the_log_when_the_server_ends() {
    let server = Server::spawn(&mut serve("--shards 1 --origin https://a.example"));
    for _ in 0..3 {
        let head = response_head(&server, "Origin: https://b.example\r\n");
        assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    }
    server.signal(Signal::TERM);
    let (_, log) = server.wait(ms(5000));
    let lines = log.matches("a page was refused").count();
    let others = log.split("others=").skip(1).map(|it| {
        let digits = it.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|it| it.parse::<usize>().ok())
    });
    let others: Option<usize> = others.sum();
    assert_eq!(others.map(|it| it + lines), Some(3), "{log}");
}

#[test]
fn a_message_longer_than_the_send_queue_is_sent() {
    for mut command in [echo, serve].map(|it| it("--max-send-queue 1KiB --shards 1")) {
        let server = Server::spawn(&mut command);
        let mut client = Client::open(&server);
        for _ in 0..3 {
            let message = vec![7; 1 << 20];
            client.send(&binary(&message));
            client.expect(FIN | BINARY, message);
        }
    }
}
