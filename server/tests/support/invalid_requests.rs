//! Requests that the server rejects.

use super::client::{Client, End, REQUEST};

/// Returns [`REQUEST`] with `new` in place of `old`.
pub(crate) fn request(old: &str, new: &str) -> String {
    assert!(REQUEST.contains(old), "REQUEST contains `{old}`");
    REQUEST.replacen(old, new, 1)
}

/// Returns invalid requests, each with the status of its response.
pub(crate) fn all() -> Vec<(u16, String)> {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let version = "Sec-WebSocket-Version: 13";
    let junk: String = ('\u{0}'..'\u{80}').collect();
    let many: String = (0..200).map(|at| format!("X-Header-{at}: v\r\n")).collect();
    vec![
        (400, junk),
        (400, "\r\n\r\nhello\r\n\r\n".to_owned()),
        (400, request("Host: server.example.com\r\n", "")),
        (400, request(key, "Sec-WebSocket-Key: short")),
        (400, request(&format!("{key}\r\n"), "")),
        (400, request(&format!("{version}\r\n"), "")),
        (405, request("GET", "POST")),
        (405, request("GET", "OPTIONS")),
        (426, "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        (426, request(version, "Sec-WebSocket-Version: 8")),
        (431, request("Upgrade", &format!("{many}Upgrade"))),
        (505, request("HTTP/1.1", "HTTP/1.0")),
        (505, request("HTTP/1.1", "HTTP/2.0")),
    ]
}

/// Returns requests that never become complete: nothing, a TLS record, a header over the limit, and
/// a header below the limit.
pub(crate) fn unfinished() -> [Vec<u8>; 4] {
    let header_of = |length| format!("GET / HTTP/1.1\r\nX-Long: {}", "a".repeat(length));
    [
        Vec::new(),
        b"\x16\x03\x01\x02\x00\x01".to_vec(),
        header_of(100_000).into_bytes(),
        header_of(8_000).into_bytes(),
    ]
}

/// Sends an invalid request, and asserts that the server responds with `status` and sends FIN.
pub(crate) fn assert_refused(client: &mut Client, status: u16, request: &str) {
    client.send(request.as_bytes());
    let (response, end) = client.rest();
    let response = String::from_utf8(response).expect("the response is UTF-8");
    assert!(
        response.starts_with(&format!("HTTP/1.1 {status} ")),
        "expected {status} for:\n{request}\ngot:\n{response}"
    );
    assert_eq!(end, End::Fin, "after {status} for:\n{request}");
    if request.contains("Version: 8") {
        assert!(response.contains("\r\nSec-WebSocket-Version: 13\r\n"));
    }
    if status == 405 {
        assert!(response.contains("\r\nAllow: GET\r\n"));
    }
}
