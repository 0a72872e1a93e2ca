//! `POST /publish/TOPIC`: the body is the message.

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

use super::{admin::text, media::MessageKind, places::Place};
use crate::{PublishToken, Remote, RemoteError, fanout::Readiness};

/// The path of a topic begins with this.
pub(super) const PREFIX: &str = "/publish/";

/// Time that the body of a request may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of all bodies at a time; or one message, if that may be larger.
pub(crate) const BODIES_BYTES_MAX: usize = 16 << 20;

/// The memory of a body grows by multiples of this.
const BLOCK_BYTES: usize = 4 << 10;

/// Seconds after which a publisher that was told 503 may try again: what is queued then is gone.
const RETRY_AFTER: &str = "1";

/// The token and the budget that publishing needs.
#[derive(Debug)]
pub(super) struct Publishing {
    token: PublishToken,
    message_bytes_max: usize,
    /// The rest of the budget of all bodies, in blocks.
    blocks: Semaphore,
}

impl Publishing {
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

    /// Publishes the body as text if its type [says so](MessageKind), as binary otherwise.
    pub(super) async fn publish<B>(
        &self,
        remote: &Remote,
        place: &Place,
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
        if !is_plain(request.headers()) {
            let reason = "a body is sent as it is, or chunked, without another Transfer-Encoding\n";
            return closing(text(StatusCode::NOT_IMPLEMENTED, reason));
        }
        let kind = match message_kind(request.headers()) {
            Ok(kind) => kind,
            Err(reason) => return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason),
        };
        let body = timeout(BODY_TIMEOUT, self.receive(place, request.into_body()));
        let body = match body.await {
            Ok(Ok(body)) => body,
            Ok(Err(refusal)) => return self.refuse(refusal),
            Err(_) => {
                let reason = "the message did not arrive in time\n";
                return closing(text(StatusCode::REQUEST_TIMEOUT, reason));
            }
        };
        // Its subscribers are told to leave, or have left.
        if remote.readiness() != Readiness::Serving {
            return busy("the server shuts down: publish to the next one\n");
        }
        let published = match kind {
            MessageKind::Binary => remote.publish(&topic, body.bytes.as_slice()),
            MessageKind::Text => match std::str::from_utf8(&body.bytes) {
                Ok(message) => remote.publish(&topic, message),
                Err(_) => return text(StatusCode::BAD_REQUEST, "the text is not UTF-8\n"),
            },
        };
        match published {
            Ok(()) => text(StatusCode::ACCEPTED, "published\n"),
            Err(error @ RemoteError::Topic(_)) => text(StatusCode::NOT_FOUND, format!("{error}\n")),
            Err(error @ (RemoteError::Busy | RemoteError::Gone)) => busy(format!("{error}\n")),
        }
    }

    /// The answer to a request without the right token (RFC 6750 3); `None` if it has that.
    fn challenge(&self, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
        let (reason, challenge) = match bearer(headers) {
            Some(token) if self.token.matches(token) => return None,
            Some(_) => (
                "the token is not that of --publish-token\n",
                "Bearer realm=\"publish\", error=\"invalid_token\"",
            ),
            None => (
                "`Authorization: Bearer` with the token of --publish-token is missing\n",
                "Bearer realm=\"publish\"",
            ),
        };
        let mut response = text(StatusCode::UNAUTHORIZED, reason);
        let challenge = header::HeaderValue::from_static(challenge);
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
        Some(response)
    }

    /// Receives a body, in memory of the budget.
    async fn receive<B>(&self, place: &Place, mut body: B) -> Result<Received<'_>, Refusal>
    where
        B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
    {
        let limit = self.message_bytes_max;
        // Its length, where the request tells that. It is not asked for if it is too large.
        let announced = body.size_hint();
        if announced.lower() > limit as u64 {
            return Err(Refusal::TooLarge);
        }
        let limit = announced
            .upper()
            .and_then(|length| usize::try_from(length).ok())
            .map_or(limit, |length| length.min(limit));
        let room = self.blocks.try_acquire_many(0);
        let mut received = Received {
            bytes: Vec::new(),
            room: room.map_err(|_| Refusal::NoRoom)?,
        };
        place.received();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Refusal::Broken(error.to_string()))?;
            // Trailers are not part of the message.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            place.received();
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
                let reason = format!(
                    "a message has {} bytes at most (--max-message-size)\n",
                    self.message_bytes_max
                );
                closing(text(StatusCode::PAYLOAD_TOO_LARGE, reason))
            }
            Refusal::NoRoom => busy("too many messages are on their way: try again later\n"),
            Refusal::Broken(error) => closing(text(StatusCode::BAD_REQUEST, format!("{error}\n"))),
        }
    }
}

/// Why a body is not received.
#[derive(Debug)]
enum Refusal {
    /// It is larger than a message may be.
    TooLarge,
    /// The budget of all bodies is used up.
    NoRoom,
    /// It is not encoded as HTTP demands.
    Broken(String),
}

/// The part of a body that has come. It is copied out of the connection's buffer, because many small parts would
/// keep much more memory than they have bytes.
#[derive(Debug)]
struct Received<'a> {
    bytes: Vec<u8>,
    /// The capacity of `bytes`, at least.
    room: SemaphorePermit<'a>,
}

impl<'a> Received<'a> {
    /// Appends a part of a body of `limit` bytes at most.
    fn append(&mut self, data: &[u8], limit: usize, blocks: &'a Semaphore) -> Result<(), Refusal> {
        let needed = self.bytes.len() + data.len();
        let held = self.room.num_permits();
        if needed > held * BLOCK_BYTES {
            // Doubling keeps the copying in proportion.
            let wanted = needed.max((2 * held * BLOCK_BYTES).min(limit));
            let wanted = wanted.div_ceil(BLOCK_BYTES);
            let more = u32::try_from(wanted - held).map_err(|_| Refusal::NoRoom)?;
            let more = blocks.try_acquire_many(more).map_err(|_| Refusal::NoRoom)?;
            self.room.merge(more);
            let capacity = wanted * BLOCK_BYTES;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }
}

/// The token of `Authorization: Bearer`. The scheme has no case (RFC 9110 11.1), and spaces follow it.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.as_bytes();
    // Several say nothing: it is not known which of them other servers on the way have looked at.
    if values.next().is_some() {
        return None;
    }
    let end = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = value.split_at(end);
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer");
    is_bearer.then_some(rest.trim_ascii_start())
}

/// Whether a body has no transfer coding but chunks, of which nothing is left when it has been received
/// (RFC 9112 6.1).
fn is_plain(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    codings.all(|it| it.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

/// The kind of the message, or why that cannot be known.
fn message_kind(headers: &HeaderMap) -> Result<MessageKind, String> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let is_identity = |it: &header::HeaderValue| it.as_bytes().eq_ignore_ascii_case(b"identity");
    if !codings.all(is_identity) {
        return Err("a message is published as it is, without Content-Encoding\n".to_owned());
    }
    MessageKind::of_message(headers).map_err(|error| format!("{error}\n"))
}

/// The rest of the request is not read, so the connection cannot carry another one.
fn closing(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let close = header::HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

/// There is no room now.
fn busy(reason: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, reason);
    let seconds = header::HeaderValue::from_static(RETRY_AFTER);
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;
    use crate::control::places::Places;

    fn publishing(message_bytes_max: usize) -> Publishing {
        Publishing::new(PublishToken::new("s3cret").unwrap(), message_bytes_max)
    }

    /// A body in parts, whose length is not told.
    fn chunked(parts: usize, size: usize) -> impl Body<Data = Bytes, Error = String> + Unpin {
        let part = move |_| Ok(Frame::data(Bytes::from(vec![7; size])));
        StreamBody::new(futures_util::stream::iter((0..parts).map(part)))
    }

    async fn place() -> Place {
        std::rc::Rc::new(Places::new(1)).take().await
    }

    #[tokio::test]
    async fn the_memory_of_a_body_is_within_what_it_has_of_the_budget() {
        let (publishing, place) = (publishing(1 << 20), place().await);
        for (parts, size) in [(0, 0), (1, 1), (1 << 20, 1), (17, 4097), (1, 1 << 20)] {
            let all = publishing.blocks.available_permits();
            let received = publishing.receive(&place, chunked(parts, size)).await;
            let received = received.expect("there is room");
            assert_eq!(received.bytes.len(), parts * size);
            let held = received.room.num_permits();
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
        let place = place().await;
        for limit in [0, 1, 4095, 4096, 4097, 1 << 20, 20 << 20] {
            let publishing = publishing(limit);
            let most = publishing.receive(&place, chunked(1, limit)).await;
            assert_eq!(most.expect("it is not too large").bytes.len(), limit);
            let sized = Full::new(Bytes::from(vec![0; limit + 1]));
            let more = publishing.receive(&place, sized).await;
            assert!(matches!(more, Err(Refusal::TooLarge)), "{more:?}");
            let more = publishing.receive(&place, chunked(2, limit / 2 + 1)).await;
            assert!(matches!(more, Err(Refusal::TooLarge)), "{more:?}");
        }
    }

    #[tokio::test]
    async fn bodies_beyond_the_budget_find_no_room() {
        let place = place().await;
        // The budget has room for 16 of these, for one of those, and for one of the largest.
        for (size, fit) in [(1 << 20, 16), (9 << 20, 1), (40 << 20, 1)] {
            let publishing = publishing(size);
            let mut received = Vec::new();
            for _ in 0..fit {
                let body = publishing.receive(&place, chunked(1, size)).await;
                received.push(body.expect("there is room"));
            }
            let more = publishing.receive(&place, chunked(1, size)).await;
            assert!(matches!(more, Err(Refusal::NoRoom)), "{more:?}");
            received.pop();
            let body = publishing.receive(&place, chunked(1, size)).await;
            assert!(body.is_ok(), "there is room again");
        }
    }

    #[tokio::test]
    async fn what_has_not_arrived_takes_nothing_of_the_budget() {
        let (publishing, place) = (publishing(1 << 20), place().await);
        let all = publishing.blocks.available_permits();
        let never = futures_util::stream::pending::<Result<Frame<Bytes>, String>>();
        let receive = publishing.receive(&place, StreamBody::new(never));
        let mut receive = std::pin::pin!(receive);
        tokio::select! {
            biased;
            received = &mut receive => panic!("nothing comes: {received:?}"),
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
    fn the_scheme_has_no_case_and_the_token_has() {
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
        for (wrong, says_invalid) in [
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
            let answer = answer.expect("it has no right token");
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{wrong:?}");
            // RFC 6750 3: the scheme, and a parameter at least.
            let challenge = answer.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
            assert!(challenge.starts_with("Bearer realm="), "{challenge}");
            let invalid = challenge.contains("error=\"invalid_token\"");
            assert_eq!(invalid, says_invalid, "{wrong:?}: {challenge}");
        }
    }
}
