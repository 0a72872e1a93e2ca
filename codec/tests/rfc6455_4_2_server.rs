//! RFC 6455 4.2: the opening handshake of a server, as literal bytes under the number of the section.

use tidewheel_codec::handshake::{Accept, ClientRequest, Limits, Rejection, Request, accept_key};

/// The request of RFC 6455 1.2.
const REQUEST: &str = "GET /chat HTTP/1.1\r\n\
    Host: server.example.com\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Origin: http://example.com\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// The response of RFC 6455 1.2.
const RESPONSE: &str = "HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    Sec-WebSocket-Protocol: chat\r\n\r\n";

fn parse(request: &str) -> Result<Option<(Request<'_>, usize)>, Rejection> {
    Request::parse(request.as_bytes(), &Limits::default())
}

fn accepted(request: &str) -> Request<'_> {
    parse(request).unwrap().expect("the request is complete").0
}

/// Returns the status of the rejection, and the response.
fn rejected(request: &str) -> (u16, String) {
    let accept = parse(request).and_then(|parsed| match parsed {
        Some((request, _)) => request.upgrade(),
        None => panic!("the request is incomplete"),
    });
    let rejection = accept.expect_err("the request is rejected");
    let mut out = Vec::new();
    rejection.write(&mut out);
    let response = String::from_utf8(out).unwrap();
    assert!(response.contains("close\r\n"), "{response}");
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
        "{response}"
    );
    assert_eq!(body, format!("{}\n", rejection.message()));
    (rejection.status(), response)
}

/// Returns the request of section 1.2 with a replacement.
fn with(line: &str, replacement: &str) -> String {
    assert!(REQUEST.contains(line));
    REQUEST.replace(line, replacement)
}

#[test]
fn section_1_2_the_example_is_accepted() {
    let (request, size) = parse(REQUEST).unwrap().unwrap();
    assert_eq!(size, REQUEST.len());
    assert_eq!((request.path(), request.query()), ("/chat", None));
    assert_eq!(request.host(), "server.example.com");
    assert_eq!(request.origin(), Some("http://example.com"));
    assert_eq!(
        request.protocols().collect::<Vec<_>>(),
        ["chat", "superchat"]
    );
    assert_eq!(request.extensions().next(), None);
    let mut out = Vec::new();
    let accept = request.upgrade().unwrap();
    accept.with_protocol("chat").write(&mut out);
    assert_eq!(String::from_utf8(out).unwrap(), RESPONSE);
}

#[test]
fn section_1_3_the_accept_key_of_the_example() {
    assert_eq!(
        &accept_key("dGhlIHNhbXBsZSBub25jZQ=="),
        b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
}

#[test]
fn section_4_2_1_every_prefix_is_incomplete() {
    for size in 0..REQUEST.len() {
        assert!(parse(&REQUEST[..size]).unwrap().is_none(), "{size} bytes");
    }
}

#[test]
fn section_4_2_1_frames_may_follow_the_request_at_once() {
    let bytes = [
        REQUEST.as_bytes(),
        b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
    ]
    .concat();
    let (_, size) = Request::parse(&bytes, &Limits::default()).unwrap().unwrap();
    assert_eq!(&bytes[size..size + 2], b"\x81\x85");
}

#[test]
fn section_4_2_1_a_body_is_part_of_the_request() {
    let request = with("Origin:", "Content-Length: 5\r\nOrigin:") + "12345\u{1}";
    for size in 0..request.len() - 1 {
        assert!(parse(&request[..size]).unwrap().is_none(), "{size} bytes");
    }
    let (_, size) = parse(&request).unwrap().unwrap();
    assert_eq!(&request[size..], "\u{1}");
    for (line, status) in [
        ("Content-Length: 1\r\nContent-Length: 2", 400),
        ("Content-Length: +1", 400),
        ("Content-Length: ", 400),
        ("Content-Length: 99999", 413),
        ("Content-Length: 99999999999999999999999", 413),
        ("Transfer-Encoding: chunked", 501),
    ] {
        assert_eq!(
            rejected(&with("Origin:", &format!("{line}\r\nOrigin:"))).0,
            status,
            "{line}"
        );
    }
}

/// RFC 9110 9.3: a request without an upgrade may have another method, and a body.
#[test]
fn a_request_without_an_upgrade_has_a_method_and_a_body() {
    for (method, body) in [("GET", ""), ("HEAD", ""), ("POST", "a=b"), ("GET", "x")] {
        let length = body.len();
        let request = format!(
            "{method} /path?query HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let more = format!("{request}GET");
        let (parsed, size) = parse(&more).unwrap().expect("the request is complete");
        assert_eq!(size, request.len(), "{request}");
        assert_eq!((parsed.method(), parsed.path()), (method, "/path"));
        assert_eq!(parsed.body(), body.as_bytes());
        assert!(!parsed.asks_for_websocket() && !parsed.expects_continue());
        assert_eq!(parsed.upgrade().unwrap_err().status(), 426);
    }
    for method in ["PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "post"] {
        let (status, response) = rejected(&format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(status, 405);
        assert!(
            response.contains("\r\nAllow: GET, HEAD, POST\r\n"),
            "{response}"
        );
    }
}

/// RFC 9110 10.1.1: the client sends the body after 100 Continue.
#[test]
fn a_head_is_parsed_before_its_body_has_arrived() {
    let head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-Continue\r\n\r\n";
    for body in ["", "a", "abcd", "abcdef"] {
        let request = format!("{head}{body}");
        let (parsed, size) = Request::parse_head(request.as_bytes(), &Limits::default())
            .unwrap()
            .expect("the head is complete");
        assert!(parsed.expects_continue());
        assert_eq!(size, head.len() + 4);
        assert_eq!(parsed.body(), &body.as_bytes()[..body.len().min(4)]);
        assert_eq!(parse(&request).unwrap().is_some(), body.len() >= 4);
    }
    let wrong = head.replace("Host: h\r\n", "");
    assert_eq!(parse(&wrong).unwrap_err().status(), 400, "before the body");
}

#[test]
fn section_4_2_1_names_and_tokens_are_compared_without_case() {
    let request = "GET / HTTP/1.1\r\nHOST:h\r\nuPGRADE: h2c ,  WebSocket\r\n\
        connection: keep-alive\r\nConnection: ,foo,\tUPGRADE ,\r\n\
        SEC-WEBSOCKET-KEY:   dGhlIHNhbXBsZSBub25jZQ==  \r\nsec-websocket-version: 13\r\n\r\n";
    let request = accepted(request);
    assert_eq!(request.host(), "h");
    assert_eq!(request.header("host"), Some("h"));
    assert_eq!(request.header("absent"), None);
    assert_eq!(request.headers().count(), 6);
}

#[test]
fn section_4_2_1_repeated_lists_are_joined() {
    let request = with(
        "Origin:",
        "Sec-WebSocket-Protocol: third\r\nSec-WebSocket-Extensions: a; b=1\r\nOrigin:",
    );
    let request = with_lines(&request, "Sec-WebSocket-Extensions: c, d");
    let request = accepted(&request);
    assert_eq!(
        request.protocols().collect::<Vec<_>>(),
        ["third", "chat", "superchat"]
    );
    assert_eq!(request.extensions().collect::<Vec<_>>(), ["a; b=1", "c, d"]);
    assert_eq!(request.choose_protocol(&["chat", "third"]), Some("third"));
    assert_eq!(request.choose_protocol(&["fourth"]), None);
}

/// Returns `request` with further header lines.
fn with_lines(request: &str, lines: &str) -> String {
    format!("{}\r\n{lines}\r\n\r\n", request.trim_end())
}

#[test]
fn section_4_2_1_1_the_target_is_a_path_or_an_http_uri() {
    // RFC 9112 3.2.2: the host of an absolute URI replaces that of the header.
    let header = "server.example.com";
    for (target, host, path, query) in [
        ("/", header, "/", None),
        ("/a/b?c=d?e", header, "/a/b", Some("c=d?e")),
        ("/?", header, "/", Some("")),
        ("http://example.com/a?b", "example.com", "/a", Some("b")),
        ("WSS://example.com:443", "example.com:443", "/", None),
        ("ws://x?next=/b/c", "x", "/", Some("next=/b/c")),
        (
            "ws://[::1]:80/a?next=/b/c",
            "[::1]:80",
            "/a",
            Some("next=/b/c"),
        ),
    ] {
        let request = with("/chat", target);
        let request = accepted(&request);
        assert_eq!(request.host(), host, "{target}");
        assert_eq!((request.path(), request.query()), (path, query), "{target}");
    }
    for target in [
        "*",
        "chat",
        "ftp://example.com/",
        "example.com:443",
        "ws:///a",
        "ws://?a",
        "ws://",
        "ws://a@example.com/",
        "ws://:80/a",
        "ws://[::1/a",
        "ws://example.com:x/a",
        "ws://example.com:99999/a",
        "ws://%/a",
        "ws://example.com#f/a",
        "/a#f",
    ] {
        assert_eq!(rejected(&with("/chat", target)).0, 400, "{target}");
    }
}

#[test]
fn section_4_2_1_1_the_method_is_get() {
    for method in ["POST", "HEAD", "CONNECT", "OPTIONS", "get"] {
        let (status, response) = rejected(&with("GET", method));
        assert_eq!(status, 405);
        assert!(response.contains("\r\nAllow: GET\r\n"), "{response}");
    }
}

#[test]
fn section_4_2_1_1_http_is_1_1() {
    for version in ["HTTP/1.0", "HTTP/2.0", "HTTP/0.9"] {
        assert_eq!(rejected(&with("HTTP/1.1", version)).0, 505, "{version}");
    }
    assert_eq!(rejected("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").0, 505);
}

#[test]
fn section_4_2_1_2_the_host_is_present_once() {
    assert_eq!(rejected(&with("Host: server.example.com\r\n", "")).0, 400);
    assert_eq!(rejected(&with("Host:", "Host: a\r\nHost:")).0, 400);
}

/// RFC 9112 3.2: an invalid host gets 400.
#[test]
fn section_4_2_1_2_the_host_is_valid() {
    let server = "server.example.com";
    for host in [
        server,
        "",
        "a:",
        "a:65535",
        "a_b.example",
        "a,b",
        "%41",
        "127.0.0.1:80",
        "[::1]",
        "[::1]:8080",
    ] {
        assert_eq!(accepted(&with(server, host)).host(), host);
    }
    for host in [
        "a b",
        "a/b",
        "u@a",
        "a:x",
        "a:65536",
        "a:-1",
        "a:1:2",
        "[::1",
        "::1",
        "[a]",
        "%4",
        "a#b",
        "b\u{fc}cher",
    ] {
        assert_eq!(rejected(&with(server, host)).0, 400, "{host}");
    }
}

#[test]
fn section_4_2_1_3_a_request_without_upgrade_websocket_gets_426() {
    for line in ["", "Upgrade: h2c\r\n"] {
        let (status, response) = rejected(&with("Upgrade: websocket\r\n", line));
        assert_eq!(status, 426);
        assert!(
            response.contains("\r\nUpgrade: websocket\r\n")
                && response.contains("\r\nConnection: upgrade, close\r\n"),
            "{response}"
        );
    }
}

#[test]
fn section_4_2_1_4_a_request_without_connection_upgrade_gets_400() {
    for line in ["", "Connection: keep-alive\r\n"] {
        let (status, response) = rejected(&with("Connection: Upgrade\r\n", line));
        assert_eq!(status, 400);
        assert!(response.contains("proxy"), "{response}");
    }
}

#[test]
fn section_4_2_1_5_the_key_is_16_bytes_in_base64() {
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    for wrong in [
        "",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25j",
        "dGhlIHNhbXBsZSBub25jZSE=",
        "????",
    ] {
        assert_eq!(rejected(&with(key, wrong)).0, 400, "{wrong}");
    }
    assert_eq!(rejected(&with("Sec-WebSocket-Key", "X-Key")).0, 400);
    let again = with_lines(REQUEST, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==");
    assert_eq!(rejected(&again).0, 400);
}

#[test]
fn section_4_1_the_unused_bits_of_a_key_may_have_any_value() {
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let request = with(key, "AQIDBAUGBwgJCgsMDQ4PEC==");
    let mut out = Vec::new();
    accepted(&request).upgrade().unwrap().write(&mut out);
    let accept = accept_key("AQIDBAUGBwgJCgsMDQ4PEC==");
    assert!(out.windows(accept.len()).any(|part| part == accept));
}

#[test]
fn section_10_2_the_origin_is_present_once() {
    let origin = "Origin: https://a.example";
    let once = with_lines(REQUEST, origin);
    let twice = with_lines(&once, origin);
    assert_eq!(rejected(&twice).0, 400);
}

#[test]
fn section_10_2_an_origin_that_is_not_utf_8_gets_400() {
    for origin in [&b"\xff"[..], b"https://evil\xff"] {
        let (before, behind) = REQUEST.split_once("http://example.com").unwrap();
        let request = [before.as_bytes(), origin, behind.as_bytes()].concat();
        let (request, _) = Request::parse(&request, &Limits::default())
            .unwrap()
            .unwrap();
        assert_eq!(request.upgrade().unwrap_err().status(), 400);
    }
}

#[test]
fn section_4_2_1_6_the_version_is_13() {
    for version in ["8", "14", "013", "13, 8", "x"] {
        let (status, response) = rejected(&with("Version: 13", &format!("Version: {version}")));
        assert_eq!(status, 426, "{version}");
        assert!(
            response.contains("\r\nSec-WebSocket-Version: 13\r\n"),
            "{response}"
        );
    }
    let (status, response) = rejected(&with("Sec-WebSocket-Version: 13\r\n", ""));
    assert_eq!(status, 400);
    assert!(response.contains("Sec-WebSocket-Version: 13 is missing"));
    assert_eq!(
        rejected(&with_lines(REQUEST, "Sec-WebSocket-Version: 13")).0,
        400
    );
}

#[test]
fn section_4_1_10_subprotocols_are_tokens() {
    assert_eq!(
        rejected(&with("chat, superchat", "chat, super chat")).0,
        400
    );
    let request = with("chat, superchat", ", ,chat,");
    assert_eq!(accepted(&request).protocols().collect::<Vec<_>>(), ["chat"]);
}

#[test]
fn a_request_head_above_the_limits_gets_431() {
    let many = "X: y\r\n".repeat(58);
    let fits = with_lines(REQUEST, &many[..many.len() - 8]);
    assert_eq!(accepted(&fits).headers().count(), 64);
    assert_eq!(rejected(&with_lines(REQUEST, many.trim_end())).0, 431);
    assert_eq!(
        rejected(&with_lines(REQUEST, &"X: y\r\n".repeat(500))).0,
        431
    );
    let large = format!("X: {}", "y".repeat(16 << 10));
    assert_eq!(rejected(&with_lines(REQUEST, &large)).0, 431);
    assert_eq!(rejected(&format!("GET /{}", "y".repeat(16 << 10))).0, 431);
}

#[test]
fn malformed_bytes_get_400_before_the_request_is_complete() {
    for malformed in [
        "\u{16}\u{3}\u{1}\u{2}",
        "GET\0/ HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n",
        "\r\r\r\r",
    ] {
        assert_eq!(rejected(malformed).0, 400, "{malformed:?}");
    }
}

#[test]
fn no_value_adds_a_header() {
    let mut out = Vec::new();
    Accept::new("dGhlIHNhbXBsZSBub25jZQ==")
        .with_protocol("a\r\nInjected: 1")
        .with_header("X-Two\r\nX", "b\r\n\r\nInjected: 3")
        .write(&mut out);
    Rejection::new(403, "no")
        .with_header("Location", "c\r\nInjected: 4")
        .write(&mut out);
    ClientRequest::new("host\r\nInjected: 5", "/ HTTP/1.1\r\nInjected: 6", [0; 16]).write(&mut out);
    let written = String::from_utf8(out).unwrap();
    assert!(!written.contains("\nInjected"), "{written}");
}

#[test]
fn a_given_content_type_replaces_the_default() {
    let mut out = Vec::new();
    Rejection::new(403, "{}")
        .with_header("content-type", "application/json")
        .write(&mut out);
    let response = String::from_utf8(out).unwrap().to_ascii_lowercase();
    assert_eq!(response.matches("content-type:").count(), 1, "{response}");
}

#[test]
fn a_status_that_does_not_refuse_is_replaced_by_500() {
    for status in 0..=u16::MAX {
        let expected = match status {
            300..=599 => status,
            _ => 500,
        };
        let rejection = Rejection::new(status, "no");
        assert_eq!(rejection.status(), expected);
        let mut out = Vec::new();
        rejection.write(&mut out);
        assert!(out.starts_with(format!("HTTP/1.1 {expected} ").as_bytes()));
    }
}

#[test]
fn no_value_adds_a_line_to_a_response() {
    let evil = "a\r\nSet-Cookie: evil\n\r\n\0x";
    let mut responses = [Vec::new(), Vec::new()];
    Rejection::new(400, "no")
        .with_header("X-One", evil)
        .with_header(evil, "two")
        .write(&mut responses[0]);
    Accept::new("dGhlIHNhbXBsZSBub25jZQ==")
        .with_protocol(evil)
        .with_extensions(evil)
        .with_header("X-One", evil)
        .with_header(evil, "two")
        .write(&mut responses[1]);
    for response in responses {
        let text = String::from_utf8(response).unwrap();
        let (head, _) = text.split_once("\r\n\r\n").expect("one empty line");
        assert!(!head.contains('\0'));
        assert!(
            head.lines().all(|line| !line.starts_with("Set-Cookie")),
            "{head}"
        );
        assert_eq!(
            head.matches("evil").count(),
            head.matches("a  Set-Cookie: evil").count()
        );
    }
}
