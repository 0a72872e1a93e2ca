//! HTTP of the admin listener: hosts, methods, versions.

use super::{Response, TOKEN, connect, request};
use crate::support::{
    client::Client,
    process::{Server, serve},
};
use std::io::{Read as _, Write as _};

#[test]
fn a_host_that_is_not_listed_gets_421() {
    let server = Server::spawn(&mut serve("--shards 1 --host 127.0.0.1,*.example.org"));
    for (request, status) in [
        ("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9090\r\n", "200"),
        ("GET /healthz HTTP/1.1\r\nHost: a.example.org\r\n", "200"),
        ("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n", "421"),
        ("POST /publish/a HTTP/1.1\r\nHost: evil.example\r\n", "421"),
        // A host in the target overrides the header.
        (
            "GET http://evil.example/metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n",
            "421",
        ),
        (
            "GET http://127.0.0.1/metrics HTTP/1.1\r\nHost: evil.example\r\n",
            "200",
        ),
        // A request without a host is not from a browser.
        ("GET /healthz HTTP/1.0\r\n", "200"),
    ] {
        let response = server.admin_raw(&format!("{request}Connection: close\r\n\r\n"));
        let status_code = response.split(' ').nth(1);
        assert_eq!(status_code, Some(status), "{request}: {response}");
    }
}

#[test]
fn each_method_gets_the_status_and_allow_header_of_http() {
    let server = Server::spawn(&mut serve("--shards 1 --publish-token s3cret"));
    for path in ["/", "/dashboard.css", "/metrics", "/healthz", "/readyz"] {
        let get = request(&server, "GET", path, "", "");
        assert_eq!(get.status, "HTTP/1.1 200 OK", "{path}");
        let head = request(&server, "HEAD", path, "", "");
        assert_eq!((head.status, &*head.body), (get.status, ""), "{path}");
        for name in ["content-type", "content-length", "cache-control"] {
            let (head, get) = (head.headers.get(name), get.headers.get(name));
            // The length of the metrics depends on their values.
            let is_same = head == get || (path == "/metrics" && name == "content-length");
            assert!(head.is_some() && is_same, "{path}: {head:?} and {get:?}");
        }
        let options = request(&server, "OPTIONS", path, "", "");
        assert_eq!(options.status, "HTTP/1.1 200 OK", "{path}");
        assert_eq!(options.header("allow"), Some("GET, HEAD, OPTIONS"));
        assert_eq!(options.header("content-length"), Some("0"));
        for method in ["POST", "PUT", "DELETE", "TRACE", "PATCH", "BREW"] {
            let response = request(&server, method, path, "", "");
            assert_eq!(
                response.status, "HTTP/1.1 405 Method Not Allowed",
                "{method}"
            );
            assert_eq!(response.header("allow"), Some("GET, HEAD, OPTIONS"));
        }
    }
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        let response = request(&server, method, "/publish/a", TOKEN, "");
        assert_eq!(
            response.status, "HTTP/1.1 405 Method Not Allowed",
            "{method}"
        );
        assert_eq!(response.header("allow"), Some("OPTIONS, POST"));
    }
    let options = request(&server, "OPTIONS", "/publish/a", "", "");
    assert_eq!(options.header("allow"), Some("OPTIONS, POST"));
    let options = request(&server, "OPTIONS", "*", "", "");
    assert_eq!(options.header("allow"), Some("GET, HEAD, OPTIONS, POST"));
    for method in ["GET", "POST", "OPTIONS"] {
        let response = request(&server, method, "/publish", TOKEN, "");
        assert_eq!(response.status, "HTTP/1.1 404 Not Found", "{method}");
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
        let response = Response::parse(&server.admin_raw(&request));
        assert!(
            response.status.contains(status),
            "{hosts:?}: {}",
            response.status
        );
    }
}

#[test]
fn a_health_check_by_http_1_0_gets_a_response_and_the_connection_closes() {
    let server = Server::spawn(&mut serve("--shards 1"));
    // The first is the request of HAProxy's `option httpchk`.
    for (request, body) in [
        ("OPTIONS / HTTP/1.0\r\n\r\n", ""),
        ("OPTIONS /readyz HTTP/1.0\r\n\r\n", ""),
        ("HEAD /readyz HTTP/1.0\r\n\r\n", ""),
        ("GET /readyz HTTP/1.0\r\n\r\n", "ready\n"),
    ] {
        let response = Response::parse(&server.admin_raw(request));
        assert_eq!(response.status, "HTTP/1.0 200 OK", "{request}");
        assert_eq!(response.body, body, "{request}");
    }
    // While the server drains, every kind of check fails.
    let mut client = Client::open(&server);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(client.frame().close_code(), 1001);
    for method in ["OPTIONS", "HEAD", "GET"] {
        let request = format!("{method} /readyz HTTP/1.0\r\n\r\n");
        let response = Response::parse(&server.admin_raw(&request));
        assert_eq!(
            response.status, "HTTP/1.0 503 Service Unavailable",
            "{method}"
        );
    }
}

#[test]
fn a_client_that_has_sent_fin_gets_a_response() {
    let server = Server::spawn(&mut serve("--shards 1 --publish-token s3cret"));
    let post = format!("POST /publish/a HTTP/1.1\r\nHost: a\r\n{TOKEN}Content-Length: 2\r\n\r\nhi");
    for (request, status) in [
        ("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 "),
        (&post, "HTTP/1.1 202 "),
    ] {
        let mut stream = connect(&server);
        stream
            .write_all(request.as_bytes())
            .expect("the server reads");
        let fin = stream.shutdown(std::net::Shutdown::Write);
        fin.expect("the socket is connected");
        let mut response = String::new();
        stream
            .read_to_string(&mut response)
            .expect("the server responds");
        assert!(response.starts_with(status), "{response}");
    }
}
