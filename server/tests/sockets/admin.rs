//! The admin listener, as scrapers, health checks, publishers and crowds find it.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    sync::Arc,
};

use crate::support::{
    client::{Client, REQUEST},
    ms,
    process::{Server, serve},
    raise_descriptor_limit, wait,
};

const TOKEN: &str = "Authorization: Bearer s3cret\r\n";

/// The admin listener's connections at most.
const CONNECTIONS_MAX: usize = 64;

const MIB: u64 = 1 << 20;

/// The head of an answer, whose names are in lower case, and its body.
struct Answer {
    status: String,
    headers: HashMap<String, String>,
    body: String,
}

impl Answer {
    /// Parses all that came on a connection.
    #[track_caller]
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("a head ends");
        let mut lines = head.lines();
        let status = lines.next().expect("a status").to_owned();
        let mut headers = HashMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").expect("a header");
            let before = headers.insert(name.to_ascii_lowercase(), value.to_owned());
            assert_eq!(before, None, "{name} is there once in:\n{head}");
        }
        Self {
            status,
            headers,
            body: body.to_owned(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// Asks by HTTP/1.1, on a connection of its own.
#[track_caller]
fn ask(server: &Server, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Length: {length}\r\n"),
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n{length}{headers}\r\n{body}"
    );
    Answer::parse(&server.admin_raw(&request))
}

#[test]
fn a_host_that_is_not_listed_is_told_421() {
    let server = Server::spawn(&mut serve("--shards 1 --host 127.0.0.1,*.example.org"));
    for (request, status) in [
        ("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9090\r\n", "200"),
        ("GET /healthz HTTP/1.1\r\nHost: a.example.org\r\n", "200"),
        ("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n", "421"),
        ("POST /publish/a HTTP/1.1\r\nHost: evil.example\r\n", "421"),
        // The target's host counts.
        (
            "GET http://evil.example/metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n",
            "421",
        ),
        (
            "GET http://127.0.0.1/metrics HTTP/1.1\r\nHost: evil.example\r\n",
            "200",
        ),
        // No browser.
        ("GET /healthz HTTP/1.0\r\n", "200"),
    ] {
        let answer = server.admin_raw(&format!("{request}Connection: close\r\n\r\n"));
        let answered = answer.split(' ').nth(1);
        assert_eq!(answered, Some(status), "{request}: {answer}");
    }
}

#[test]
fn every_method_is_answered_as_http_demands() {
    let server = Server::spawn(&mut serve("--shards 1 --publish-token s3cret"));
    for path in ["/", "/dashboard.css", "/metrics", "/healthz", "/readyz"] {
        let get = ask(&server, "GET", path, "", "");
        assert_eq!(get.status, "HTTP/1.1 200 OK", "{path}");
        let head = ask(&server, "HEAD", path, "", "");
        assert_eq!((head.status, &*head.body), (get.status, ""), "{path}");
        for name in ["content-type", "content-length", "cache-control"] {
            let (head, get) = (head.headers.get(name), get.headers.get(name));
            // The length of the metrics changes with their values.
            let is_same = head == get || (path == "/metrics" && name == "content-length");
            assert!(head.is_some() && is_same, "{path}: {head:?} and {get:?}");
        }
        let options = ask(&server, "OPTIONS", path, "", "");
        assert_eq!(options.status, "HTTP/1.1 200 OK", "{path}");
        assert_eq!(options.header("allow"), Some("GET, HEAD, OPTIONS"));
        assert_eq!(options.header("content-length"), Some("0"));
        for method in ["POST", "PUT", "DELETE", "TRACE", "PATCH", "BREW"] {
            let answer = ask(&server, method, path, "", "");
            assert_eq!(answer.status, "HTTP/1.1 405 Method Not Allowed", "{method}");
            assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"));
        }
    }
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        let answer = ask(&server, method, "/publish/a", TOKEN, "");
        assert_eq!(answer.status, "HTTP/1.1 405 Method Not Allowed", "{method}");
        assert_eq!(answer.header("allow"), Some("OPTIONS, POST"));
    }
    let options = ask(&server, "OPTIONS", "/publish/a", "", "");
    assert_eq!(options.header("allow"), Some("OPTIONS, POST"));
    let options = ask(&server, "OPTIONS", "*", "", "");
    assert_eq!(options.header("allow"), Some("GET, HEAD, OPTIONS, POST"));
    for method in ["GET", "POST", "OPTIONS"] {
        let answer = ask(&server, method, "/publish", TOKEN, "");
        assert_eq!(answer.status, "HTTP/1.1 404 Not Found", "{method}");
    }
    for (version, hosts, status) in [
        ("1.1", "", "400"),
        ("1.1", "Host: a\r\nHost: b\r\n", "400"),
        ("1.1", "Host:\r\n", "200"),
        ("1.1", "Host: a b\r\n", "400"),
        ("1.1", "Host: a/b\r\n", "400"),
        ("1.1", "Host: u@a\r\n", "400"),
        ("1.1", "Host: a:\r\n", "200"),
        ("1.0", "", "200"),
        ("1.0", "Host: a\r\nHost: b\r\n", "400"),
    ] {
        let request = format!("GET /healthz HTTP/{version}\r\nConnection: close\r\n{hosts}\r\n");
        let answer = Answer::parse(&server.admin_raw(&request));
        assert!(
            answer.status.contains(status),
            "{hosts:?}: {}",
            answer.status
        );
    }
}

#[test]
fn health_checks_of_http_1_0_are_answered_and_the_connection_ends() {
    let server = Server::spawn(&mut serve("--shards 1"));
    // The first is what `option httpchk` of HAProxy sends.
    for (request, body) in [
        ("OPTIONS / HTTP/1.0\r\n\r\n", ""),
        ("OPTIONS /readyz HTTP/1.0\r\n\r\n", ""),
        ("HEAD /readyz HTTP/1.0\r\n\r\n", ""),
        ("GET /readyz HTTP/1.0\r\n\r\n", "ready\n"),
    ] {
        let answer = Answer::parse(&server.admin_raw(request));
        assert_eq!(answer.status, "HTTP/1.0 200 OK", "{request}");
        assert_eq!(answer.body, body, "{request}");
    }
    // While the server drains, every kind of check sees that.
    let mut client = Client::open_chat(&server);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(client.frame().close_code(), 1001);
    for method in ["OPTIONS", "HEAD", "GET"] {
        let request = format!("{method} /readyz HTTP/1.0\r\n\r\n");
        let answer = Answer::parse(&server.admin_raw(&request));
        assert_eq!(
            answer.status, "HTTP/1.0 503 Service Unavailable",
            "{method}"
        );
    }
}

#[test]
fn a_message_that_nobody_would_get_is_refused_while_the_server_drains() {
    let server = Server::spawn(&mut serve("--shards 1 --publish-token s3cret"));
    let publish = || ask(&server, "POST", "/publish/a", TOKEN, "hello");
    assert_eq!(publish().status, "HTTP/1.1 202 Accepted");
    let mut client = Client::open_chat(&server);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(client.frame().close_code(), 1001);
    let answer = publish();
    assert_eq!(answer.status, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(
        answer.body,
        "the server shuts down: publish to the next one\n"
    );
}

#[test]
fn a_body_with_another_transfer_coding_than_chunks_is_refused() {
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
        let answer = server.admin_raw(&request);
        let answered = answer.split(' ').nth(1);
        assert_eq!(answered, Some(status), "{codings}: {answer}");
    }
}

#[test]
fn a_client_that_has_sent_fin_is_answered() {
    let server = Server::spawn(&mut serve("--shards 1 --publish-token s3cret"));
    let post = format!("POST /publish/a HTTP/1.1\r\nHost: a\r\n{TOKEN}Content-Length: 2\r\n\r\nhi");
    for (request, status) in [
        ("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 "),
        (&post, "HTTP/1.1 202 "),
    ] {
        let mut stream = connect(&server);
        stream.write_all(request.as_bytes()).expect("it reads");
        let fin = stream.shutdown(std::net::Shutdown::Write);
        fin.expect("it is connected");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with(status), "{answer}");
    }
}

#[test]
fn metrics_come_in_the_format_that_is_accepted() {
    let server = Server::spawn(&mut serve("--shards 1"));
    let text = "text/plain; version=0.0.4; charset=utf-8";
    let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    for (accept, expected) in [
        ("", text),
        ("Accept: */*\r\n", text),
        ("Accept: application/openmetrics-text\r\n", open),
        (
            "Accept: text/plain;q=0.5\r\nAccept: application/openmetrics-text;q=0.4\r\n",
            text,
        ),
    ] {
        let answer = ask(&server, "GET", "/metrics", accept, "");
        assert_eq!(answer.header("content-type"), Some(expected), "{accept}");
        assert_eq!(answer.body.ends_with("# EOF\n"), expected == open);
        let named = match expected == open {
            true => "# TYPE tidewheel_opens counter\n",
            false => "# TYPE tidewheel_opens_total counter\n",
        };
        assert!(answer.body.contains(named), "{}", answer.body);
        // The samples are the same in both.
        assert!(
            answer
                .body
                .contains("\ntidewheel_opens_total{shard=\"0\"} 0\n")
        );
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_open_fds",
            "process_max_fds",
            "process_start_time_seconds",
            "process_threads",
        ] {
            let line = |it: &&str| it.starts_with(&format!("{name} "));
            let line = answer.body.lines().find(line);
            let line = line.unwrap_or_else(|| panic!("{name} is in:\n{}", answer.body));
            let (_, value) = line.split_once(' ').expect("a value");
            let value: f64 = value.parse().expect("a number");
            assert!(value > 0.0 || name.contains("cpu"), "{line}");
        }
    }
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let server = Server::spawn(&mut serve("--shards 2"));
    let mut client = Client::open_chat(&server);
    client.send(&crate::support::client::text("counted"));
    client.expect(0x81, "counted");
    let metrics = ask(&server, "GET", "/metrics", "", "").body;
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            assert!(
                std::env::var("TIDEWHEEL_INTEROP").as_deref() != Ok("required"),
                "promtool is required"
            );
            eprintln!("left out: promtool, which is not here");
            return;
        }
        child => child.expect("it runs"),
    };
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(metrics.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

impl Client {
    /// Connects to the topic `chat` of a server, and completes the opening handshake.
    fn open_chat(server: &Server) -> Self {
        let mut client = Self::connect(server);
        client.send(REQUEST.as_bytes());
        client.accept();
        client
    }
}

#[test]
fn the_content_type_decides_between_text_and_binary() {
    let server = Server::spawn(&mut serve("--shards 1 --publish-token s3cret"));
    let mut member = Client::open_chat(&server);
    for (content_type, expected) in [
        ("", 0x82),
        ("Content-Type: application/octet-stream\r\n", 0x82),
        ("content-type: text/plain\r\n", 0x81),
        ("Content-Type: TEXT/Html; Charset=\"UTF-8\"\r\n", 0x81),
        ("Content-Type: Application/JSON;charset=utf-8\r\n", 0x81),
        ("Content-Type: application/problem+json\r\n", 0x81),
    ] {
        let headers = format!("{TOKEN}{content_type}");
        let answer = ask(&server, "POST", "/publish/chat", &headers, "hello");
        assert_eq!(answer.status, "HTTP/1.1 202 Accepted", "{content_type}");
        member.expect(expected, "hello");
    }
    for (wrong, status) in [
        ("Content-Type: text\r\n", "415"),
        ("Content-Type: text/plain; charset=utf-16\r\n", "415"),
        (
            "Content-Type: text/plain\r\nContent-Type: text/plain\r\n",
            "415",
        ),
        ("Content-Encoding: gzip\r\n", "415"),
    ] {
        let headers = format!("{TOKEN}{wrong}");
        let answer = ask(&server, "POST", "/publish/chat", &headers, "hello");
        assert!(answer.status.contains(status), "{wrong}: {}", answer.status);
    }
    let headers = format!("{TOKEN}Content-Encoding: identity\r\n");
    let answer = ask(&server, "POST", "/publish/chat", &headers, "the end");
    assert_eq!(answer.status, "HTTP/1.1 202 Accepted");
    member.expect(0x82, "the end");
}

#[test]
fn a_body_may_be_as_large_as_a_message() {
    for (flag, limit) in [("1KiB", 1 << 10), ("1MiB", 1 << 20), ("20MiB", 20 << 20)] {
        let flags = format!("--shards 1 --publish-token s3cret --max-message-size {flag}");
        let server = Server::spawn(&mut serve(&flags));
        let mut member = Client::open_chat(&server);
        let mut body = "x".repeat(limit);
        let answer = ask(&server, "POST", "/publish/chat", TOKEN, &body);
        assert_eq!(answer.status, "HTTP/1.1 202 Accepted", "{flag}");
        assert_eq!(member.frame().payload, body.as_bytes());
        // One byte more is refused, and the client that sends all of it before it reads learns why.
        body.push('x');
        let answer = ask(&server, "POST", "/publish/chat", TOKEN, &body);
        assert_eq!(answer.status, "HTTP/1.1 413 Payload Too Large", "{flag}");
        assert!(answer.body.contains(&limit.to_string()), "{}", answer.body);
    }
}

/// Connects, and says nothing.
fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.admin_address()).expect("the admin listener accepts");
    let timeout = Some(ms(20_000));
    let set = stream.set_read_timeout(timeout);
    set.and_then(|()| stream.set_write_timeout(timeout))
        .expect("it is not zero");
    stream
}

/// Asks for the metrics, which come within much less than a deadline of the crowd.
#[track_caller]
fn assert_is_quick(server: &Server) {
    let start = wait::now();
    let metrics = server.admin("/metrics");
    wait::assert_within(start, ms(5000), "the metrics come");
    assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
}

#[test]
fn a_thousand_idle_connections_take_few_descriptors_and_keep_nobody_out() {
    raise_descriptor_limit();
    let server = Server::spawn(&mut serve("--shards 1"));
    // The connection that asks is one of them.
    assert_is_quick(&server);
    let before = server.descriptors();
    for said in ["", "GET /metrics HTTP/1.1\r\nHost: a\r\n"] {
        let mut crowd = Vec::new();
        for at in 0..1000 {
            let mut stream = connect(&server);
            // It may have given way already.
            let _ = stream.write_all(said.as_bytes());
            crowd.push(stream);
            if at % 100 == 99 {
                assert_is_quick(&server);
                let more = server.descriptors().saturating_sub(before);
                assert!(more <= CONNECTIONS_MAX + 2, "{more} descriptors");
            }
        }
    }
    server.signal(rustix::process::Signal::TERM);
    let (_, log) = server.wait(ms(5000));
    assert!(!log.contains("WARN"), "{log}");
}

#[test]
fn a_crowd_takes_a_small_part_of_few_descriptors() {
    let server = Server::spawn(&mut crate::service::with_descriptors(64));
    let crowd: Vec<_> = (0..200).map(|_| connect(&server)).collect();
    assert_is_quick(&server);
    assert!(server.descriptors() < 50, "{}", server.descriptors());
    drop(crowd);
    server.signal(rustix::process::Signal::TERM);
    let (_, log) = server.wait(ms(5000));
    assert!(!log.contains("cannot accept"), "{log}");
}

#[test]
fn bodies_that_are_held_back_take_little_memory_and_keep_nobody_out() {
    raise_descriptor_limit();
    let server = Server::spawn(&mut serve("--shards 1 --publish-token s3cret"));
    assert_is_quick(&server);
    let before = server.memory("VmRSS");
    let size = 1 << 20;
    let head =
        format!("POST /publish/a HTTP/1.1\r\nHost: a\r\n{TOKEN}Content-Length: {size}\r\n\r\n");
    let request: Arc<[u8]> = [head.as_bytes(), &vec![b'x'; size - 1]].concat().into();
    let crowd: Vec<_> = (0..400)
        .map(|_| {
            let (mut stream, request) = (connect(&server), Arc::clone(&request));
            std::thread::spawn(move || {
                // There may be no room for it.
                let _ = stream.write_all(&request);
                stream
            })
        })
        .collect();
    let crowd: Vec<_> = crowd
        .into_iter()
        .map(|it| it.join().expect("it only writes"))
        .collect();
    assert_is_quick(&server);
    let grown = server.memory("VmHWM").saturating_sub(before);
    assert!(grown < 60 * MIB, "{} MiB for 400 MiB", grown / MIB);
    drop(crowd);
}

#[test]
fn clients_that_ask_and_do_not_read_keep_nobody_out() {
    raise_descriptor_limit();
    let server = Server::spawn(&mut serve("--shards 1"));
    assert_is_quick(&server);
    let before = server.memory("VmRSS");
    let requests = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    let mut crowd = Vec::new();
    for _ in 0..100 {
        let mut stream = connect(&server);
        stream.set_nonblocking(true).expect("it is a socket");
        while stream
            .write(requests.as_bytes())
            .is_ok_and(|count| count > 0)
        {}
        crowd.push(stream);
    }
    let metrics = server.admin("/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
    let grown = server.memory("VmHWM").saturating_sub(before);
    assert!(grown < 60 * MIB, "{} MiB", grown / MIB);
}
