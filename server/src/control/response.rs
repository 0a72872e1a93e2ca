//! Responses of the admin listener.

use http_body_util::Full;
use hyper::{Response, StatusCode, body::Bytes, header};

/// Seconds after which a publisher that got 503 may retry. The queued messages are sent by then.
const RETRY_AFTER_SECONDS: &str = "1";

/// A response with a body of this media type. It must not be stored, and its type must not be guessed.
pub(super) fn with_body(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, media_type);
    set(&mut response, header::CACHE_CONTROL, "no-store");
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    response
}

/// A response with a text.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    with_body(status, "text/plain; charset=utf-8", text)
}

/// A response to `OPTIONS`, with the methods of the path.
pub(super) fn options(status: StatusCode, methods: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = status;
    set(&mut response, header::ALLOW, methods);
    response
}

/// 405, with the methods of the path.
pub(super) fn method_not_allowed(methods: &'static str) -> Response<Full<Bytes>> {
    let message = format!("the methods of this path are {methods}\n");
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, message);
    set(&mut response, header::ALLOW, methods);
    response
}

/// 503: the request may succeed later.
pub(super) fn busy(message: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, message);
    set(&mut response, header::RETRY_AFTER, RETRY_AFTER_SECONDS);
    response
}

/// A response that ends the connection, because the rest of the request is not read.
pub(super) fn closing(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    set(&mut response, header::CONNECTION, "close");
    response
}

/// Sets a header.
pub(super) fn set(
    response: &mut Response<Full<Bytes>>,
    name: header::HeaderName,
    value: &'static str,
) {
    let value = header::HeaderValue::from_static(value);
    response.headers_mut().insert(name, value);
}
