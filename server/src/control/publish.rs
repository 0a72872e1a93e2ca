//! `POST /publish/TOPIC`: the body is the message.

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Bytes, Incoming},
    header,
};
use percent_encoding::percent_decode_str;

use super::admin::{Admin, BODY_TIMEOUT, PUBLISH, text};
use crate::RemoteError;

/// Bytes of a message at most.
pub(crate) const BODY_MAX: usize = 1 << 20;

/// Seconds after which a publisher that was told 503 may try again: what is queued then is gone.
const RETRY_AFTER: &str = "1";

/// Publishes the body: as text if it says that it is (`text/...`, JSON), as binary otherwise.
pub(super) async fn answer(admin: &Admin, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "publishing is by POST\n");
    }
    let Some(token) = &admin.publish_token else {
        let reason = "nobody may publish here: --publish-token says who may\n";
        return text(StatusCode::FORBIDDEN, reason);
    };
    if !is_authorized(&request, token) {
        let reason = "`Authorization: Bearer` and the token of --publish-token are missing\n";
        let mut response = text(StatusCode::UNAUTHORIZED, reason);
        let scheme = header::HeaderValue::from_static("Bearer");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, scheme);
        return response;
    }
    let path = request.uri().path();
    let Ok(topic) = percent_decode_str(&path[PUBLISH.len()..]).decode_utf8() else {
        return text(StatusCode::BAD_REQUEST, "the topic is not UTF-8\n");
    };
    let (topic, is_text) = (topic.into_owned(), is_text(&request));
    // As much as may come, where that is not said.
    let size = request
        .body()
        .size_hint()
        .upper()
        .unwrap_or(BODY_MAX as u64);
    let size = size.min(BODY_MAX as u64) as u32;
    let Ok(_room) = admin.bodies.try_acquire_many(size) else {
        return busy("too many messages are on their way: try again later\n");
    };
    let body = Limited::new(request.into_body(), BODY_MAX).collect();
    let Ok(body) = tokio::time::timeout(BODY_TIMEOUT, body).await else {
        return text(
            StatusCode::REQUEST_TIMEOUT,
            "the message did not come in time\n",
        );
    };
    let body = match body {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            let reason = format!("a message is of {BODY_MAX} bytes at most\n");
            return text(StatusCode::PAYLOAD_TOO_LARGE, reason);
        }
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    let published = if is_text {
        match std::str::from_utf8(&body) {
            Ok(message) => admin.remote.publish(&topic, message),
            Err(_) => return text(StatusCode::BAD_REQUEST, "the text is not UTF-8\n"),
        }
    } else {
        admin.remote.publish(&topic, &*body)
    };
    match published {
        Ok(()) => text(StatusCode::ACCEPTED, "published\n"),
        Err(error @ RemoteError::Topic(_)) => text(StatusCode::NOT_FOUND, format!("{error}\n")),
        Err(error @ (RemoteError::Busy | RemoteError::Gone)) => busy(format!("{error}\n")),
    }
}

/// There is no room now.
fn busy(reason: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, reason);
    let seconds = header::HeaderValue::from_static(RETRY_AFTER);
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}

/// Compares in a time that does not tell how much of it was right.
fn is_authorized(request: &Request<Incoming>, token: &str) -> bool {
    let said = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    let differences = said
        .bytes()
        .zip(token.bytes())
        .fold(0, |differences, (said, right)| differences | (said ^ right));
    said.len() == token.len() && differences == 0
}

fn is_text(request: &Request<Incoming>) -> bool {
    let kind = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    kind.starts_with("text/") || kind.starts_with("application/json")
}
