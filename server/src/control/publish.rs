//! `POST /publish/TOPIC`: publishes the body of the request.

use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Body, Bytes},
    header,
};
use percent_encoding::percent_decode_str;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Duration, timeout},
};

use super::{
    media::MessageKind,
    response::{self, busy, closing, text},
    slots::Slot,
};
use crate::{PublishToken, Publisher, RemoteError, fanout::Readiness};

/// The path before the topic.
pub(super) const PREFIX: &str = "/publish/";

/// Maximum time for the body of a request to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Budget of all bodies in bytes, unless a single message may be larger.
pub(crate) const BODIES_BYTES_MAX: usize = 16 << 20;

/// The memory of a body in bytes is a multiple of this.
const BLOCK_BYTES: usize = 4 << 10;

/// Receives and publishes messages.
#[derive(Debug)]
pub(super) struct Publishing {
    token: PublishToken,
    message_bytes_max: usize,
    /// The free part of the budget of all bodies, in blocks of [`BLOCK_BYTES`].
    blocks: Semaphore,
}

impl Publishing {
    /// Returns one that requires `token`, and accepts messages of up to `message_bytes_max` bytes.
    pub(super) fn new(token: PublishToken, message_bytes_max: usize) -> Self {
        let blocks = message_bytes_max
            .max(BODIES_BYTES_MAX)
            .div_ceil(BLOCK_BYTES);
        Self {
            token,
            message_bytes_max,
            blocks: Semaphore::new(blocks.min(Semaphore::MAX_PERMITS)),
        }
    }

    /// Publishes the body of a request, as text or binary by its [media type](MessageKind), and returns the
    /// response.
    pub(super) async fn publish<B>(
        &self,
        publisher: &Publisher,
        slot: &Slot,
        request: Request<B>,
    ) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
    {
        if let Some(response) = self.challenge(request.headers()) {
            return response;
        }
        let path = request.uri().path();
        let Ok(topic) = percent_decode_str(&path[PREFIX.len()..]).decode_utf8() else {
            return text(StatusCode::BAD_REQUEST, "the topic is not UTF-8\n");
        };
        let topic = topic.into_owned();
        if !is_chunked_only(request.headers()) {
            let message = "the only supported Transfer-Encoding is chunked\n";
            return closing(text(StatusCode::NOT_IMPLEMENTED, message));
        }
        let kind = match message_kind(request.headers()) {
            Ok(kind) => kind,
            Err(message) => return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, message),
        };
        let body = timeout(BODY_TIMEOUT, self.receive(slot, request.into_body()));
        let body = match body.await {
            Ok(Ok(body)) => body,
            Ok(Err(refusal)) => return self.refuse(refusal),
            Err(_) => {
                let message = "the message did not arrive in time\n";
                return closing(text(StatusCode::REQUEST_TIMEOUT, message));
            }
        };
        // During a drain the subscribers disconnect, so a message would not reach all of them.
        if publisher.readiness() != Readiness::Serving {
            return busy("the server is shutting down; publish to another server\n");
        }
        let published = match kind {
            MessageKind::Binary => publisher.publish(&topic, body.bytes.as_slice()),
            MessageKind::Text => match std::str::from_utf8(&body.bytes) {
                Ok(message) => publisher.publish(&topic, message),
                Err(_) => return text(StatusCode::BAD_REQUEST, "the text is not UTF-8\n"),
            },
        };
        match published {
            Ok(()) => text(StatusCode::ACCEPTED, "published\n"),
            Err(error @ RemoteError::Topic(_)) => text(StatusCode::NOT_FOUND, format!("{error}\n")),
            Err(error @ (RemoteError::Busy | RemoteError::Gone)) => busy(format!("{error}\n")),
        }
    }

    /// The response to a request without the right token (RFC 6750 3); `None` if the token is right.
    fn challenge(&self, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
        let (message, challenge) = match bearer(headers) {
            Some(token) if self.token.matches(token) => return None,
            Some(_) => (
                "the token is not the publish token of the server\n",
                "Bearer realm=\"publish\", error=\"invalid_token\"",
            ),
            None => (
                "the request needs `Authorization: Bearer` with the publish token of the server\n",
                "Bearer realm=\"publish\"",
            ),
        };
        let mut response = text(StatusCode::UNAUTHORIZED, message);
        response::set(&mut response, header::WWW_AUTHENTICATE, challenge);
        Some(response)
    }

    /// Receives a body into memory of the budget.
    async fn receive<B>(&self, slot: &Slot, mut body: B) -> Result<Received<'_>, Refusal>
    where
        B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
    {
        let limit = self.message_bytes_max;
        // Known if the request has a Content-Length. A body that is too large is not even asked for, with
        // `Expect: 100-continue`.
        let announced = body.size_hint();
        if announced.lower() > limit as u64 {
            return Err(Refusal::TooLarge);
        }
        let limit = announced
            .upper()
            .and_then(|length| usize::try_from(length).ok())
            .map_or(limit, |length| length.min(limit));
        let permit = self.blocks.try_acquire_many(0);
        let mut received = Received {
            bytes: Vec::new(),
            permit: permit.map_err(|_| Refusal::OverBudget)?,
        };
        slot.received();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Refusal::Malformed(error.to_string()))?;
            // Trailers are not part of the message.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            slot.received();
            if data.len() > limit - received.bytes.len() {
                return Err(Refusal::TooLarge);
            }
            received.append(&data, limit, &self.blocks)?;
        }
        Ok(received)
    }

    fn refuse(&self, refusal: Refusal) -> Response<Full<Bytes>> {
        match refusal {
            Refusal::TooLarge => {
                let message = format!(
                    "the message is larger than {} bytes, the maximum message size\n",
                    self.message_bytes_max
                );
                closing(text(StatusCode::PAYLOAD_TOO_LARGE, message))
            }
            Refusal::OverBudget => busy("too many messages are arriving; try again later\n"),
            Refusal::Malformed(error) => {
                closing(text(StatusCode::BAD_REQUEST, format!("{error}\n")))
            }
        }
    }
}

/// The reason for refusing a body.
#[derive(Debug)]
enum Refusal {
    /// It is larger than a message may be.
    TooLarge,
    /// The budget of all bodies is used up.
    OverBudget,
    /// It violates HTTP.
    Malformed(String),
}

/// The received part of a body.
///
/// It is copied out of the buffers of the connection, because many small parts would keep much more memory than
/// they have bytes.
#[derive(Debug)]
struct Received<'a> {
    bytes: Vec<u8>,
    /// At least as many blocks of the budget as `bytes` has capacity for.
    permit: SemaphorePermit<'a>,
}

impl<'a> Received<'a> {
    /// Appends a part of a body of at most `limit` bytes.
    fn append(&mut self, data: &[u8], limit: usize, blocks: &'a Semaphore) -> Result<(), Refusal> {
        let needed = self.bytes.len() + data.len();
        let held = self.permit.num_permits();
        if needed > held * BLOCK_BYTES {
            // Doubling makes the cost of copying linear.
            let wanted = needed.max((2 * held * BLOCK_BYTES).min(limit));
            let wanted = wanted.div_ceil(BLOCK_BYTES);
            let more = u32::try_from(wanted - held).map_err(|_| Refusal::OverBudget)?;
            let more = blocks
                .try_acquire_many(more)
                .map_err(|_| Refusal::OverBudget)?;
            self.permit.merge(more);
            let capacity = wanted * BLOCK_BYTES;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }
}

/// The token of `Authorization: Bearer`. The case of the scheme does not matter (RFC 9110 11.1), and spaces
/// follow it.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.as_bytes();
    // Several values are refused, because a proxy may have checked another one.
    if values.next().is_some() {
        return None;
    }
    let end = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = value.split_at(end);
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer");
    is_bearer.then_some(rest.trim_ascii_start())
}

/// Whether a body has no transfer coding other than chunked, which hyper removes (RFC 9112 6.1).
fn is_chunked_only(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    codings.all(|it| it.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

/// The kind of the message, or the message of the error.
fn message_kind(headers: &HeaderMap) -> Result<MessageKind, String> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let is_identity = |it: &header::HeaderValue| it.as_bytes().eq_ignore_ascii_case(b"identity");
    if !codings.all(is_identity) {
        return Err("Content-Encoding is not supported\n".to_owned());
    }
    MessageKind::of_message(headers).map_err(|error| format!("{error}\n"))
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;
    use crate::control::slots::Slots;

    fn publishing(message_bytes_max: usize) -> Publishing {
        Publishing::new(PublishToken::new("s3cret").unwrap(), message_bytes_max)
    }

    /// A body in parts, without a Content-Length.
    fn chunked(parts: usize, size: usize) -> impl Body<Data = Bytes, Error = String> + Unpin {
        let part = move |_| Ok(Frame::data(Bytes::from(vec![7; size])));
        StreamBody::new(futures_util::stream::iter((0..parts).map(part)))
    }

    async fn slot() -> Slot {
        std::rc::Rc::new(Slots::new(1)).take().await
    }

    #[tokio::test]
    async fn the_capacity_of_a_body_is_within_its_part_of_the_budget() {
        let (publishing, slot) = (publishing(1 << 20), slot().await);
        for (parts, size) in [(0, 0), (1, 1), (1 << 20, 1), (17, 4097), (1, 1 << 20)] {
            let all = publishing.blocks.available_permits();
            let received = publishing.receive(&slot, chunked(parts, size)).await;
            let received = received.expect("the budget suffices");
            assert_eq!(received.bytes.len(), parts * size);
            let held = received.permit.num_permits();
            assert_eq!(publishing.blocks.available_permits(), all - held);
            assert!(received.bytes.capacity() <= held * BLOCK_BYTES);
            let needed = (parts * size).div_ceil(BLOCK_BYTES);
            assert!(held <= 2 * needed, "{held} blocks for {needed}");
            drop(received);
            assert_eq!(publishing.blocks.available_permits(), all);
        }
    }

    #[tokio::test]
    async fn a_body_of_the_limit_is_received_and_one_byte_more_is_not() {
        let slot = slot().await;
        for limit in [0, 1, 4095, 4096, 4097, 1 << 20, 20 << 20] {
            let publishing = publishing(limit);
            let most = publishing.receive(&slot, chunked(1, limit)).await;
            assert_eq!(most.expect("the body is not too large").bytes.len(), limit);
            let sized = Full::new(Bytes::from(vec![0; limit + 1]));
            let more = publishing.receive(&slot, sized).await;
            assert!(matches!(more, Err(Refusal::TooLarge)), "{more:?}");
            let more = publishing.receive(&slot, chunked(2, limit / 2 + 1)).await;
            assert!(matches!(more, Err(Refusal::TooLarge)), "{more:?}");
        }
    }

    #[tokio::test]
    async fn bodies_over_the_budget_are_refused() {
        let slot = slot().await;
        // The number of bodies of each size that fit into the budget.
        for (size, fit) in [(1 << 20, 16), (9 << 20, 1), (40 << 20, 1)] {
            let publishing = publishing(size);
            let mut received = Vec::new();
            for _ in 0..fit {
                let body = publishing.receive(&slot, chunked(1, size)).await;
                received.push(body.expect("the budget suffices"));
            }
            let more = publishing.receive(&slot, chunked(1, size)).await;
            assert!(matches!(more, Err(Refusal::OverBudget)), "{more:?}");
            received.pop();
            let body = publishing.receive(&slot, chunked(1, size)).await;
            assert!(body.is_ok(), "the budget suffices again");
        }
    }

    #[tokio::test]
    async fn a_body_takes_budget_only_for_the_bytes_that_have_arrived() {
        let (publishing, slot) = (publishing(1 << 20), slot().await);
        let all = publishing.blocks.available_permits();
        let never = futures_util::stream::pending::<Result<Frame<Bytes>, String>>();
        let receive = publishing.receive(&slot, StreamBody::new(never));
        let mut receive = std::pin::pin!(receive);
        tokio::select! {
            biased;
            received = &mut receive => panic!("the body never ends: {received:?}"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(publishing.blocks.available_permits(), all);
    }

    fn authorization(values: &[&str]) -> HeaderMap {
        let values = values.iter().map(|it| header::HeaderValue::from_str(it));
        let values = values.map(|it| (header::AUTHORIZATION, it.unwrap()));
        values.collect()
    }

    #[test]
    fn the_case_of_the_token_matters_and_of_the_scheme_does_not() {
        let publishing = publishing(1);
        for right in [
            "Bearer s3cret",
            "bearer s3cret",
            "BEARER s3cret",
            "bEaReR    s3cret",
        ] {
            let answer = publishing.challenge(&authorization(&[right]));
            assert!(answer.is_none(), "{right}");
        }
        for (wrong, expects_invalid_token) in [
            (&[][..], false),
            (&[""], false),
            (&["Bearer"], false),
            (&["s3cret"], false),
            (&["Basic s3cret"], false),
            (&["Bearers3cret"], false),
            (&["Bearer\ts3cret"], false),
            (&["Bearer s3cret", "Bearer s3cret"], false),
            (&["Bearer "], true),
            (&["Bearer S3CRET"], true),
            (&["Bearer s3cret s3cret"], true),
            (&["Bearer s3cret,"], true),
        ] {
            let answer = publishing.challenge(&authorization(wrong));
            let answer = answer.expect("the token is wrong");
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{wrong:?}");
            // RFC 6750 3: the scheme and at least one parameter.
            let challenge = answer.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
            assert!(challenge.starts_with("Bearer realm="), "{challenge}");
            let invalid = challenge.contains("error=\"invalid_token\"");
            assert_eq!(invalid, expects_invalid_token, "{wrong:?}: {challenge}");
        }
    }
}
