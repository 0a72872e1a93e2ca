use tidewheel_codec::handshake::{ClientRequest, Limits, Request, Response};
use tidewheel_codec::{Endpoint, Role};

use super::side::config;

/// Asserts that a prefix of a handshake is incomplete, is refused, or has the same content as the whole.
pub fn handshake(bytes: &[u8]) {
    let mut limits = Limits::default();
    limits.max_bytes = 2048;
    limits.max_headers = 16;
    if let Ok(Some((request, size))) = Request::parse(bytes, &limits) {
        assert!(size <= bytes.len() && size <= limits.max_bytes);
        assert!(request.path().starts_with('/'));
        assert!(request.headers().count() <= limits.max_headers);
        let (again, same_size) = Request::parse(&bytes[..size], &limits).unwrap().unwrap();
        assert_eq!((again.path(), same_size), (request.path(), size));
        assert!(
            Request::parse(&bytes[..size - 1], &limits)
                .unwrap()
                .is_none()
        );
        assert!(request.body().len() < size);
        assert_eq!(again.body(), request.body());
        let mut out = Vec::new();
        match request.upgrade() {
            Ok(accept) => {
                assert!(request.asks_for_websocket() && request.method() == "GET");
                accept.write(&mut out);
            }
            Err(rejection) => rejection.write(&mut out),
        }
        assert!(out.starts_with(b"HTTP/1.1 "));
        let _ = request.protocols().chain(request.extensions()).count();
        let server = Endpoint::with_seed(config(Role::Server, true, true), 1)
            .expect("the configuration is valid");
        let _ = server.accept_deflate(request.extensions());
    } else if let Err(rejection) = Request::parse(bytes, &limits) {
        let mut out = Vec::new();
        rejection.write(&mut out);
        assert!(out.starts_with(b"HTTP/1.1 "));
    }
    let request =
        ClientRequest::new("host", "/", *b"the sample nonce").with_extension("permessage-deflate");
    if let Ok(Some((response, size))) = Response::parse(bytes, &limits, &request) {
        assert!(size <= bytes.len());
        let client = Endpoint::with_seed(config(Role::Client, true, true), 1)
            .expect("the configuration is valid");
        let _ = client.confirm_deflate(response.extensions());
    }
}
