//! `POST /publish/TOPIC`.

use super::{TOKEN, request};
use crate::support::{
    client::Client,
    process::{Server, serve},
};

#[test]
fn publishing_while_the_server_drains_gets_503_with_retry_after() {
    let server = Server::spawn(&mut serve("--shards 1 --publish-token s3cret"));
    let publish = || request(&server, "POST", "/publish/a", TOKEN, "hello");
    assert_eq!(publish().status, "HTTP/1.1 202 Accepted");
    let mut client = Client::open(&server);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(client.frame().close_code(), 1001);
    let response = publish();
    assert_eq!(response.status, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(response.header("retry-after"), Some("1"));
    assert_eq!(
        response.body,
        "the server is shutting down; publish to another server\n"
    );
}

#[test]
fn a_transfer_coding_before_chunked_gets_501() {
    let server = Server::spawn(&mut serve("--shards 1 --publish-token s3cret"));
    for (codings, status) in [
        ("chunked", "202"),
        ("Chunked", "202"),
        ("gzip, chunked", "501"),
        ("gzip\r\nTransfer-Encoding: chunked", "501"),
    ] {
        let head = "POST /publish/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
        let body = "2\r\nhi\r\n0\r\n\r\n";
        let request = format!("{head}{TOKEN}Transfer-Encoding: {codings}\r\n\r\n{body}");
        let response = server.admin_raw(&request);
        let status_code = response.split(' ').nth(1);
        assert_eq!(status_code, Some(status), "{codings}: {response}");
    }
}

#[test]
fn the_content_type_selects_text_or_binary() {
    let server = Server::spawn(&mut serve("--shards 1 --publish-token s3cret"));
    let mut subscriber = Client::open(&server);
    for (content_type, expected) in [
        ("", 0x82),
        ("Content-Type: application/octet-stream\r\n", 0x82),
        ("content-type: text/plain\r\n", 0x81),
        ("Content-Type: TEXT/Html; Charset=\"UTF-8\"\r\n", 0x81),
        ("Content-Type: Application/JSON;charset=utf-8\r\n", 0x81),
        ("Content-Type: application/problem+json\r\n", 0x81),
    ] {
        let headers = format!("{TOKEN}{content_type}");
        let response = request(&server, "POST", "/publish/chat", &headers, "hello");
        assert_eq!(response.status, "HTTP/1.1 202 Accepted", "{content_type}");
        subscriber.expect(expected, "hello");
    }
    for (header, status) in [
        ("Content-Type: text\r\n", "415"),
        ("Content-Type: text/plain; charset=utf-16\r\n", "415"),
        (
            "Content-Type: text/plain\r\nContent-Type: text/plain\r\n",
            "415",
        ),
        ("Content-Encoding: gzip\r\n", "415"),
    ] {
        let headers = format!("{TOKEN}{header}");
        let response = request(&server, "POST", "/publish/chat", &headers, "hello");
        assert!(
            response.status.contains(status),
            "{header}: {}",
            response.status
        );
    }
    let headers = format!("{TOKEN}Content-Encoding: identity\r\n");
    let response = request(&server, "POST", "/publish/chat", &headers, "the end");
    assert_eq!(response.status, "HTTP/1.1 202 Accepted");
    subscriber.expect(0x82, "the end");
}

#[test]
fn a_body_larger_than_a_message_may_be_gets_413() {
    for (flag, limit) in [("1KiB", 1 << 10), ("1MiB", 1 << 20), ("20MiB", 20 << 20)] {
        let flags = format!("--shards 1 --publish-token s3cret --max-message-size {flag}");
        let server = Server::spawn(&mut serve(&flags));
        let mut subscriber = Client::open(&server);
        let mut body = "x".repeat(limit);
        let response = request(&server, "POST", "/publish/chat", TOKEN, &body);
        assert_eq!(response.status, "HTTP/1.1 202 Accepted", "{flag}");
        assert_eq!(subscriber.frame().payload, body.as_bytes());
        // The client receives the 413 although it sends the whole body before it reads.
        body.push('x');
        let response = request(&server, "POST", "/publish/chat", TOKEN, &body);
        assert_eq!(response.status, "HTTP/1.1 413 Payload Too Large", "{flag}");
        assert!(
            response.body.contains(&limit.to_string()),
            "{}",
            response.body
        );
    }
}
