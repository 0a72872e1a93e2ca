//! HTTP requests, and responses to requests for a WebSocket, of a handler in the same process.

use std::net::SocketAddr;

use tidewheel::{
    Config, Conn, Cookie, Handler, Hosts, Message, Request, Response, Running, Server, Verdict,
};

use crate::support::{
    client::{Client, End, REQUEST, text},
    ms, wait,
};

/// A handler whose answers depend on the path.
struct Site;

impl Handler for Site {
    type State = ();

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<()> {
        match request.path() {
            "/protocol" => Verdict::accept(()).protocol("chat.v1"),
            "/headers" => Verdict::accept(())
                .header("X-One", "1\r\nX-Two: 2")
                .header("Upgrade", "h2c")
                .cookie(&Cookie::new("session", "abc").path("/")),
            "/rejected" => Verdict::reject(Response::json(401, "{}")).header("X-One", "1"),
            _ => Verdict::accept(()),
        }
    }

    fn http(&mut self, request: &Request<'_>) -> Response {
        match (request.method(), request.path()) {
            ("GET" | "HEAD", "/hello") => {
                let name = request.parameter("name").unwrap_or_default();
                Response::text(200, format!("hello {name}"))
            }
            ("POST", "/upload") => Response::new(201).body(request.body().to_vec()),
            (_, "/addresses") => Response::text(
                200,
                format!(
                    "{} {} {}",
                    request.client(),
                    request.peer(),
                    request.local()
                ),
            ),
            (_, "/panic") => panic!("requested by the path"),
            (_, "/large") => Response::text(200, "x".repeat(3_000_000)),
            _ => Response::new(404),
        }
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        conn.send(message);
    }
}

struct Bench {
    address: SocketAddr,
    _running: Running,
}

impl Bench {
    fn start(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_on("127.0.0.1:0", change)
    }

    fn start_on(address: &str, change: impl FnOnce(&mut Config)) -> Self {
        let server = Server::builder()
            .listen(address)
            .configure(|config| config.shards = Some(1))
            .configure(change)
            .bind()
            .expect("a free port");
        let address = server.address();
        let running = server.start(|_| Ok(Site)).expect("io_uring is available");
        Self {
            address,
            _running: running,
        }
    }

    fn connect(&self) -> Client {
        Client::connect_to(self.address).expect("the server accepts a connection")
    }

    /// Sends bytes, asserts that the server ends the connection with FIN, and returns the response.
    #[track_caller]
    fn response(&self, bytes: &str) -> String {
        let mut client = self.connect();
        client.send(bytes.as_bytes());
        let (response, end) = client.rest();
        assert_eq!(end, End::Fin, "after {bytes}");
        String::from_utf8(response).expect("the response is UTF-8")
    }
}

fn request(start: &str, lines: &str, body: &str) -> String {
    format!("{start} HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n{body}")
}

#[test]
fn a_request_without_an_upgrade_is_answered_by_the_handler() {
    let bench = Bench::start(|_| ());
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 9\r\n\
         Connection: close\r\n\r\n";
    let get = bench.response(&request("GET /hello?name=A%C3%A4", "", ""));
    assert_eq!(get, format!("{head}hello Aä"));
    let head_only = bench.response(&request("HEAD /hello?name=A%C3%A4", "", ""));
    assert_eq!(head_only, head);
    let post = bench.response(&request("POST /upload", "Content-Length: 3\r\n", "abc"));
    assert!(post.starts_with("HTTP/1.1 201 Created\r\n"), "{post}");
    assert!(post.ends_with("\r\n\r\nabc"), "{post}");
    let missing = bench.response(&request("POST /hello", "", ""));
    assert!(
        missing.starts_with("HTTP/1.1 404 Not Found\r\n"),
        "{missing}"
    );
    // Bytes behind the request are discarded.
    let two = request("GET /hello", "", "").repeat(2);
    assert_eq!(bench.response(&two).matches("HTTP/1.1").count(), 1);
}

#[test]
fn a_request_has_the_addresses_of_its_peer_and_of_the_server() {
    let bench = Bench::start(|_| ());
    for _ in 0..200 {
        let mut client = bench.connect();
        let local = client.stream.local_addr().expect("the client is connected");
        client.send(request("GET /addresses", "", "").as_bytes());
        let (response, _) = client.rest();
        let expected = format!("\r\n\r\n127.0.0.1 {local} {}", bench.address);
        assert!(
            response.ends_with(expected.as_bytes()),
            "{}",
            response.escape_ascii()
        );
    }
}

#[test]
fn an_ipv4_client_of_an_ipv6_listener_has_an_ipv4_address() {
    let bench = Bench::start_on("[::]:0", |_| ());
    let mut client = Client::connect_to(SocketAddr::from(([127, 0, 0, 1], bench.address.port())))
        .expect("the listener takes IPv4 clients");
    let local = client.stream.local_addr().expect("the client is connected");
    client.send(request("GET /addresses", "", "").as_bytes());
    let (response, _) = client.rest();
    let expected = format!("\r\n\r\n127.0.0.1 {local} [::]:{}", bench.address.port());
    assert!(
        response.ends_with(expected.as_bytes()),
        "{}",
        response.escape_ascii()
    );
}

#[test]
fn a_trusted_proxy_names_the_client() {
    let lines = "X-Forwarded-For: 1.1.1.1, 198.51.100.1\r\nForwarded: for=1.1.1.1\r\n";
    for (trusted, expected) in [
        (None, "127.0.0.1 "),
        (Some("10.0.0.0/8"), "127.0.0.1 "),
        (Some("127.0.0.0/8"), "198.51.100.1 "),
    ] {
        let bench = Bench::start(|config| {
            let trusted = trusted.map(|range| range.parse().expect("a range"));
            config.trusted_proxies = Vec::from_iter(trusted);
        });
        let response = bench.response(&request("GET /addresses", lines, ""));
        let (_, body) = response.split_once("\r\n\r\n").expect("a body");
        assert!(body.starts_with(expected), "{trusted:?} {body}");
    }
}

#[test]
fn a_body_that_arrives_in_parts_is_part_of_the_request() {
    let bench = Bench::start(|_| ());
    let mut client = bench.connect();
    for byte in request("POST /upload", "Content-Length: 3\r\n", "abc").bytes() {
        client.send(&[byte]);
        wait::pause(ms(1));
    }
    let (response, _) = client.rest();
    assert!(response.ends_with(b"\r\n\r\nabc"));
}

/// RFC 9110 10.1.1.
#[test]
fn a_client_that_expects_100_continue_gets_it_once_before_its_body() {
    let bench = Bench::start(|_| ());
    let lines = "Content-Length: 3\r\nExpect: 100-continue\r\n";
    for parts in [1, 5] {
        let mut client = bench.connect();
        let head = request("POST /upload", lines, "");
        for part in head.as_bytes().chunks(head.len().div_ceil(parts)) {
            client.send(part);
            wait::pause(ms(1));
        }
        assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
        client.send(b"a");
        wait::pause(ms(1));
        client.send(b"bc");
        let (response, end) = client.rest();
        assert!(response.starts_with(b"HTTP/1.1 201 "));
        assert!(response.ends_with(b"\r\n\r\nabc"));
        assert_eq!(end, End::Fin);
    }
    let whole = bench.response(&request("POST /upload", lines, "abc"));
    assert!(whole.starts_with("HTTP/1.1 201 "), "{whole}");
    let lines = "Content-Length: 99999\r\nExpect: 100-continue\r\n";
    let large = bench.response(&request("POST /upload", lines, ""));
    assert!(large.starts_with("HTTP/1.1 413 "), "{large}");
}

/// RFC 9112 6.3: the size of a body has one meaning.
#[test]
fn a_request_with_an_ambiguous_body_is_refused() {
    let bench = Bench::start(|_| ());
    for (status, lines) in [
        (501, "Transfer-Encoding: chunked\r\n"),
        (501, "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
        (400, "Content-Length: 3\r\nContent-Length: 4\r\n"),
        (400, "Content-Length: 3, 3\r\n"),
        (400, "Content-Length: +3\r\n"),
        (400, "Content-Length : 3\r\n"),
    ] {
        let response = bench.response(&request("POST /upload", lines, "abc"));
        let expected = format!("HTTP/1.1 {status} ");
        assert!(response.starts_with(&expected), "{lines}{response}");
    }
}

#[test]
fn other_methods_and_other_paths_get_their_status() {
    let bench = Bench::start(|_| ());
    let put = bench.response(&request("PUT /hello", "", ""));
    assert!(put.starts_with("HTTP/1.1 405 "), "{put}");
    assert!(put.contains("\r\nAllow: GET, HEAD, POST\r\n"), "{put}");
    let path = bench.response(&request("GET /%ff", "", ""));
    assert!(path.starts_with("HTTP/1.1 400 "), "{path}");
}

#[test]
fn the_host_of_a_request_without_an_upgrade_is_checked() {
    let bench = Bench::start(|config| {
        config.hosts = Hosts::Listed(vec!["b.example".parse().expect("a host")]);
    });
    for (start, lines) in [
        ("GET /hello", ""),
        (
            "POST /upload",
            "Content-Length: 3\r\nExpect: 100-continue\r\n",
        ),
    ] {
        let refused = bench.response(&request(start, lines, ""));
        assert!(refused.starts_with("HTTP/1.1 421 "), "{refused}");
    }
    let head = bench.response(&request("HEAD /hello", "", ""));
    assert!(
        head.ends_with("\r\n\r\n"),
        "a response to HEAD has no body: {head}"
    );
    let accepted = request("GET /hello", "", "").replace("a.example", "b.example");
    assert!(bench.response(&accepted).starts_with("HTTP/1.1 200 "));
}

#[test]
fn r24_a_panic_of_http_is_answered_with_500() {
    let bench = Bench::start(|_| ());
    let response = bench.response(&request("GET /panic", "", ""));
    assert!(response.starts_with("HTTP/1.1 500 "), "{response}");
    assert!(
        bench
            .response(&request("GET /hello", "", ""))
            .ends_with("hello ")
    );
}

/// The deadline of a response is that of a refusal.
#[test]
fn a_client_that_takes_no_response_is_reset_at_c() {
    let bench = Bench::start(|config| config.close_timeout = ms(300));
    let mut client = bench.connect();
    client.send(request("GET /large", "", "").as_bytes());
    wait::pause(ms(600));
    let (response, end) = client.rest();
    assert_eq!(end, End::Reset);
    assert!(response.len() < 3_000_000);
}

#[test]
fn a_subprotocol_that_the_client_did_not_offer_gets_500() {
    let bench = Bench::start(|_| ());
    let with = |path: &str, line: &str| {
        let line = format!("Upgrade: websocket\r\n{line}");
        let request = REQUEST.replace("Upgrade: websocket\r\n", &line);
        request.replace("/chat", path)
    };
    for line in ["", "Sec-WebSocket-Protocol: chat.v2\r\n"] {
        let response = bench.response(&with("/protocol", line));
        assert!(response.starts_with("HTTP/1.1 500 "), "{response}");
    }
    let mut client = bench.connect();
    let line = "Sec-WebSocket-Protocol: chat.v2, chat.v1\r\n";
    client.send(with("/protocol", line).as_bytes());
    let head = client.head();
    assert!(
        head.contains("\r\nSec-WebSocket-Protocol: chat.v1\r\n"),
        "{head}"
    );
}

#[test]
fn a_verdict_adds_headers_and_cookies_to_the_response() {
    let bench = Bench::start(|_| ());
    let mut client = bench.connect();
    client.send_request("/headers");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("\r\nX-One: 1  X-Two: 2\r\n"), "{head}");
    assert!(
        head.contains("\r\nSet-Cookie: session=abc; Path=/\r\n"),
        "{head}"
    );
    assert!(!head.contains("h2c"), "{head}");
    client.send(&text("hello"));
    client.expect(0x81, "hello");
    let rejected = bench.response(&REQUEST.replace("/chat", "/rejected"));
    let expected = "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nX-One: 1\r\n\
         Content-Length: 2\r\nConnection: close\r\n\r\n{}";
    assert_eq!(rejected, expected);
}
