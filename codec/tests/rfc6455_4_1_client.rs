//! RFC 6455 4.1: the opening handshake of a client, as literal bytes under the number of the section.

use tidewheel_codec::handshake::{ClientRequest, Limits, Request, Response, ResponseError};

/// The response of RFC 6455 1.2.
const RESPONSE: &str = "HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    Sec-WebSocket-Protocol: chat\r\n\r\n";

fn client_request() -> ClientRequest<'static> {
    ClientRequest::new("server.example.com", "/chat", *b"the sample nonce")
        .with_origin("http://example.com")
        .with_protocol("chat")
        .with_protocol("superchat")
        .with_extension("permessage-deflate; client_max_window_bits")
}

fn parse_response(response: &str) -> Result<Option<(Response<'_>, usize)>, ResponseError> {
    Response::parse(response.as_bytes(), &Limits::default(), &client_request())
}

#[test]
fn section_4_1_a_server_accepts_the_request_of_a_client() {
    let mut out = Vec::new();
    client_request()
        .with_header("Authorization", "Bearer x")
        .write(&mut out);
    let (request, size) = Request::parse(&out, &Limits::default()).unwrap().unwrap();
    assert_eq!(size, out.len());
    assert_eq!(
        request.protocols().collect::<Vec<_>>(),
        ["chat", "superchat"]
    );
    assert_eq!(
        request.extensions().collect::<Vec<_>>(),
        ["permessage-deflate; client_max_window_bits"]
    );
    assert_eq!(request.header("authorization"), Some("Bearer x"));

    let mut response = Vec::new();
    request
        .upgrade()
        .unwrap()
        .with_protocol("superchat")
        .with_extensions("permessage-deflate")
        .write(&mut response);
    response.extend(b"\x81\x00");
    let (response, size) = Response::parse(&response, &Limits::default(), &client_request())
        .unwrap()
        .unwrap();
    assert_eq!(response.protocol(), Some("superchat"));
    assert_eq!(
        response.extensions().collect::<Vec<_>>(),
        ["permessage-deflate"]
    );
    assert_eq!(response.header("upgrade"), Some("websocket"));
    assert!(size > 100);
}

#[test]
fn section_4_1_every_prefix_of_the_response_is_incomplete() {
    for size in 0..RESPONSE.len() {
        assert!(
            parse_response(&RESPONSE[..size]).unwrap().is_none(),
            "{size} bytes"
        );
    }
    let (response, size) = parse_response(RESPONSE).unwrap().unwrap();
    assert_eq!((response.protocol(), size), (Some("chat"), RESPONSE.len()));
}

#[test]
fn section_4_1_every_violation_in_a_response_is_an_error() {
    let protocol = |got: &str| ResponseError::Protocol {
        got: got.to_owned(),
    };
    let extension = |got: &str| ResponseError::Extension {
        got: got.to_owned(),
    };
    for (line, replacement, error) in [
        (
            "101 Switching Protocols",
            "403 Forbidden",
            ResponseError::Status { got: 403 },
        ),
        (
            "HTTP/1.1",
            "HTTP/1.0",
            ResponseError::Malformed(httparse::Error::Version),
        ),
        (
            "HTTP/1.1",
            "HTTQ/1.1",
            ResponseError::Malformed(httparse::Error::Version),
        ),
        ("Upgrade: websocket", "Upgrade: h2c", ResponseError::Upgrade),
        ("Connection: Upgrade\r\n", "", ResponseError::Connection),
        (
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            "S3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            ResponseError::Accept,
        ),
        ("Sec-WebSocket-Accept", "X-Accept", ResponseError::Accept),
        ("Protocol: chat", "Protocol: other", protocol("other")),
        (
            "Protocol: chat",
            "Protocol: chat, superchat",
            protocol("superchat"),
        ),
        (
            "Protocol: chat",
            "Extensions: x-webkit; a",
            extension("x-webkit; a"),
        ),
    ] {
        let response = RESPONSE.replacen(line, replacement, 1);
        assert_eq!(
            parse_response(&response).unwrap_err(),
            error,
            "{replacement}"
        );
    }
    let large = RESPONSE.replace(
        "Upgrade:",
        &format!("X: {}\r\nUpgrade:", "y".repeat(16 << 10)),
    );
    assert!(matches!(
        parse_response(&large),
        Err(ResponseError::TooLarge { .. })
    ));
}
