//! The admin listener: HTTP for whoever watches the server.

use std::{borrow::Cow, convert::Infallible, io, rc::Rc, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::{Body, Bytes},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tidewheel_codec::handshake::is_authority;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    time::Instant,
};

use super::{
    dashboard,
    media::MetricsFormat,
    metrics,
    places::{IDLE_TIMEOUT, Place, Places},
    publish::{self, Publishing},
};
use crate::{Hosts, PublishToken, Remote, fanout::Readiness, host, stats::Stats};

/// Connections at a time.
pub(crate) const CONNECTIONS_MAX: usize = 64;

/// The part of the process's descriptors that they may take, if that is less.
const DESCRIPTORS_PART: u64 = 8;

/// Bytes that are buffered of what a connection sends: the head of a request is shorter.
pub(crate) const HEAD_BYTES_MAX: usize = 16 << 10;

/// After an accept has failed for want of descriptors or memory.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Between two lines of the log about failed accepts.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The listener of the admin HTTP server.
#[derive(Debug)]
pub(crate) struct AdminListener {
    pub(crate) listener: std::net::TcpListener,
    /// Required to publish; without one, nobody can.
    pub(crate) publish_token: Option<PublishToken>,
    /// Bytes of a published message at most.
    pub(crate) message_bytes_max: usize,
    /// Under which names it may be reached.
    pub(crate) hosts: Hosts,
    /// Tells how many lines of the log were lost.
    pub(crate) log_lines_lost: fn() -> u64,
}

/// What it answers from.
pub(super) struct Admin {
    pub(super) stats: Vec<Arc<Stats>>,
    pub(super) remote: Remote,
    /// Under which names it may be reached.
    pub(super) hosts: Hosts,
    /// `None`: nobody can publish.
    pub(super) publishing: Option<Publishing>,
    /// Tells how many lines of the log were lost.
    pub(super) log_lines_lost: fn() -> u64,
}

/// Answers requests for as long as the control plane runs.
pub(super) async fn serve(listener: TcpListener, admin: Admin) {
    let admin = Rc::new(admin);
    let connections_max = connections_max(host::descriptor_limit());
    let places = Rc::new(Places::new(connections_max));
    let mut failures = AcceptFailures::default();
    // So a new connection is looked at for some turns before it could be the one that gives way.
    let accepts_per_turn = (connections_max / 4).max(1);
    for accepts in 1_u64.. {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                failures.note(&error, Instant::now());
                // It may be a descriptor that is wanted.
                let _ = places.revoke_longest_idle();
                tokio::time::sleep(RETRY_AFTER).await;
                continue;
            }
        };
        // An answer that nobody reads is not kept by the kernel either.
        let socket = socket2::SockRef::from(&stream);
        if let Err(error) = socket.set_tcp_user_timeout(Some(IDLE_TIMEOUT)) {
            tracing::debug!(%error, "the kernel does not bound an admin connection");
        }
        let place = places.take().await;
        let admin = Rc::clone(&admin);
        tokio::task::spawn_local(async move { converse(stream, &admin, &place).await });
        if accepts.is_multiple_of(accepts_per_turn as u64) {
            // The runtime looks at its sockets, and ends the connections that gave way.
            tokio::task::yield_now().await;
        }
    }
}

/// The number of connections that there may be in a process with so many descriptors.
fn connections_max(descriptors: u64) -> usize {
    let part = usize::try_from(descriptors / DESCRIPTORS_PART);
    part.unwrap_or(usize::MAX).clamp(1, CONNECTIONS_MAX)
}

/// Accepts that have failed, of which the log tells now and then.
#[derive(Debug, Default)]
struct AcceptFailures {
    /// Since the log told of them.
    count: u64,
    told: Option<Instant>,
}

impl AcceptFailures {
    /// Notes one; returns how many the log tells of now.
    fn note(&mut self, error: &io::Error, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.told.is_some_and(|told| now < told + WARNING_INTERVAL) {
            return None;
        }
        self.told = Some(now);
        let count = std::mem::take(&mut self.count);
        tracing::warn!(%error, count, "the admin listener cannot accept");
        Some(count)
    }
}

/// Answers the requests of a connection until it ends, or [has to](Place::over).
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, admin: &Admin, place: &Place) {
    let conversation = async {
        let service = service_fn(|request| async move {
            // A connection has one request answered in each turn of the runtime, however many it sends.
            tokio::task::yield_now().await;
            let response = admin.answer(request, place).await;
            place.answered();
            Ok::<_, Infallible>(response)
        });
        let served = http1::Builder::new()
            // The place has a deadline for it.
            .header_read_timeout(None)
            .max_buf_size(HEAD_BYTES_MAX)
            // The answer to a request behind which nothing follows.
            .half_close(true)
            .serve_connection(TokioIo::new(&mut stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "an admin connection has failed");
        }
        // The last answer may have come before all of the request. If the rest of the request is not read,
        // the kernel resets the connection, and the client may lose the answer.
        let _ = stream.shutdown().await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    };
    tokio::select! {
        biased;
        () = place.over() => {}
        () = conversation => {}
    }
}

/// Methods of `GET` pages, and of topics.
const PAGE_METHODS: &str = "GET, HEAD, OPTIONS";
const TOPIC_METHODS: &str = "OPTIONS, POST";

/// The host that a request is for: that of its target if it names one (RFC 9112 3.2.2), or else `Host`.
fn named_host<B>(request: &Request<B>) -> Option<Cow<'_, str>> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.as_str().into());
    }
    let host = request.headers().get(header::HOST)?;
    Some(String::from_utf8_lossy(host.as_bytes()))
}

impl Admin {
    async fn answer<B>(&self, request: Request<B>, place: &Place) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
    {
        // RFC 9112 3.2. A client of HTTP/1.0 that names none is no browser.
        let hosts = request.headers().get_all(header::HOST).iter().count();
        if hosts > 1 || hosts == 0 && request.version() == Version::HTTP_11 {
            return text(StatusCode::BAD_REQUEST, "one Host is required\n");
        }
        if let Some(host) = named_host(&request) {
            if !is_authority(&host) {
                return text(StatusCode::BAD_REQUEST, "the host is not valid\n");
            }
            if let Err(rejection) = self.hosts.check(&host) {
                let status = StatusCode::MISDIRECTED_REQUEST;
                return text(status, format!("{}\n", rejection.message()));
            }
        }
        let path = request.uri().path();
        let method = request.method();
        if path.starts_with(publish::PREFIX) {
            return match (method, &self.publishing) {
                (&Method::OPTIONS, _) => options(StatusCode::OK, TOPIC_METHODS),
                (&Method::POST, Some(publishing)) => {
                    publishing.publish(&self.remote, place, request).await
                }
                (&Method::POST, None) => text(
                    StatusCode::FORBIDDEN,
                    "nobody can publish here: the server has no --publish-token\n",
                ),
                _ => not_allowed(TOPIC_METHODS),
            };
        }
        // `OPTIONS *` is about the server as a whole (RFC 9110 9.3.7).
        if method == Method::OPTIONS && path == "*" {
            return options(StatusCode::OK, "GET, HEAD, OPTIONS, POST");
        }
        let Some(page) = self.page(&request) else {
            return text(
                StatusCode::NOT_FOUND,
                "there are / (a dashboard), /metrics, /healthz, /readyz and, to publish, \
                 POST /publish/TOPIC\n",
            );
        };
        match *method {
            // The connection leaves the body of an answer to HEAD out.
            Method::GET | Method::HEAD => page,
            // Health checks ask this way, too, and look at the status.
            Method::OPTIONS => options(page.status(), PAGE_METHODS),
            _ => not_allowed(PAGE_METHODS),
        }
    }

    /// The page at a path; `None` if there is none.
    fn page<B>(&self, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        let page = match request.uri().path() {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => match self.remote.readiness() {
                Readiness::Serving => text(StatusCode::OK, "ready\n"),
                Readiness::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
                Readiness::Failed => text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "draining, because a shard has failed\n",
                ),
            },
            "/metrics" => {
                let server = metrics::Totals {
                    remote_publishes: self.remote.publishes(),
                    log_lines_lost: (self.log_lines_lost)(),
                    readiness: self.remote.readiness(),
                };
                let format = MetricsFormat::preferred(request.headers());
                let metrics = metrics::encode(&self.stats, &server, format);
                let mut page = answer(StatusCode::OK, format.content_type(), metrics);
                let varies = header::HeaderValue::from_static("Accept");
                page.headers_mut().insert(header::VARY, varies);
                page
            }
            path => return dashboard::answer(path),
        };
        Some(page)
    }
}

fn not_allowed(methods: &'static str) -> Response<Full<Bytes>> {
    let reason = format!("the methods here are {methods}\n");
    with_allow(text(StatusCode::METHOD_NOT_ALLOWED, reason), methods)
}

/// Tells the methods of a path.
fn options(status: StatusCode, methods: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = status;
    with_allow(response, methods)
}

fn with_allow(mut response: Response<Full<Bytes>>, methods: &'static str) -> Response<Full<Bytes>> {
    let methods = header::HeaderValue::from_static(methods);
    response.headers_mut().insert(header::ALLOW, methods);
    response
}

pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", body)
}

/// An answer that is true at this moment only, and is what its type says.
pub(super) fn answer(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        let value = header::HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::{
        io::{AsyncReadExt, DuplexStream, duplex},
        time::{sleep, timeout},
    };

    use super::*;
    use crate::{Config, PublishToken, shard::Parts};

    const SECOND: Duration = Duration::from_secs(1);

    fn admin() -> Admin {
        let config = Config {
            shards: Some(1),
            ..Config::default()
        };
        let parts = Parts::of_server(&config, 100);
        let token = PublishToken::new("s3cret").unwrap();
        Admin {
            stats: vec![Arc::clone(&parts[0].stats)],
            remote: parts[0].remote(),
            hosts: config.hosts.clone(),
            publishing: Some(Publishing::new(token, config.max_message_size)),
            log_lines_lost: || 0,
        }
    }

    /// Runs a connection whose client does `script`, and tells when the connection was over.
    async fn lasts<F: Future>(
        script: impl FnOnce(DuplexStream) -> F,
    ) -> (Duration, Option<F::Output>) {
        let (client, server) = duplex(8 << 10);
        let admin = admin();
        let place = Rc::new(Places::new(1)).take().await;
        let start = Instant::now();
        let (mut script, mut output) = (std::pin::pin!(script(client)), None);
        let mut connection = std::pin::pin!(converse(server, &admin, &place));
        loop {
            tokio::select! {
                () = &mut connection => break,
                done = &mut script, if output.is_none() => output = Some(done),
            }
        }
        (start.elapsed(), output)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_or_half_a_head_is_closed_after_ten_seconds() {
        for said in ["", "GET /metrics HTTP/1.1\r\nHost: a\r\n"] {
            let (lasted, _) = lasts(|mut client| async move {
                client.write_all(said.as_bytes()).await.unwrap();
                pending::<()>().await;
            })
            .await;
            assert_eq!(lasted, IDLE_TIMEOUT, "{said:?}");
        }
        let (lasted, _) = lasts(|mut client| async move {
            for byte in b"GET /metrics HTTP/1.1\r\nHost: a".iter().cycle() {
                sleep(SECOND).await;
                client.write_all(&[*byte]).await.unwrap();
            }
        })
        .await;
        assert_eq!(lasted, IDLE_TIMEOUT, "a byte a second");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_or_trickles_is_answered_with_408_after_ten_seconds() {
        let head = "POST /publish/a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cret\r\n\
                    Content-Length: 10000\r\n\r\nabc";
        for pause in [2 * SECOND, 1000 * SECOND] {
            let (lasted, answer) = lasts(|client| async move {
                let (mut read, mut write) = tokio::io::split(client);
                write.write_all(head.as_bytes()).await.unwrap();
                let trickle = async {
                    loop {
                        sleep(pause).await;
                        write.write_all(b"x").await.unwrap();
                    }
                };
                let mut answer = String::new();
                tokio::select! {
                    read = read.read_to_string(&mut answer) => read.unwrap(),
                    () = trickle => unreachable!(),
                };
                answer
            })
            .await;
            assert_eq!(lasted, Duration::from_secs(10));
            let answer = answer.expect("the connection ends after the answer");
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
            assert!(answer.contains("connection: close\r\n"), "{answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_nobody_reads_are_given_up_after_ten_seconds() {
        let (lasted, _) = lasts(|mut client| async move {
            loop {
                let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
                client.write_all(request).await.unwrap();
            }
        })
        .await;
        assert_eq!(lasted, IDLE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_request_is_read_to_its_end_and_not_for_ever() {
        let head = "POST /publish/a HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n";
        let (lasted, sent) = lasts(|client| async move {
            let (mut read, mut write) = tokio::io::split(client);
            write.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            read.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
            let mut sent = 0;
            while write.write_all(&[0; 4096]).await.is_ok() {
                sent += 4096;
                sleep(SECOND).await;
            }
            sent
        })
        .await;
        assert_eq!(lasted, IDLE_TIMEOUT);
        assert!(sent.is_none_or(|sent| sent >= 9 * 4096), "{sent:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_goes_on_asking_is_never_cut() {
        let (lasted, _) = lasts(|mut client| async move {
            for _ in 0..100 {
                sleep(IDLE_TIMEOUT - SECOND).await;
                let request = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
                client.write_all(request).await.unwrap();
                let mut answer = [0; 1024];
                let count = client.read(&mut answer).await.unwrap();
                assert!(answer[..count].ends_with(b"ok\n"));
            }
            drop(client);
        })
        .await;
        assert_eq!(lasted, 100 * (IDLE_TIMEOUT - SECOND));
    }

    #[tokio::test]
    async fn one_connection_has_one_request_answered_in_a_turn() {
        let (mut client, server) = duplex(1 << 20);
        let requests = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
        client.write_all(requests.as_bytes()).await.unwrap();
        let admin = admin();
        let place = Rc::new(Places::new(1)).take().await;
        let turns = async {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        };
        let connection = converse(server, &admin, &place);
        let ended = timeout(SECOND, async {
            tokio::select! {
                biased;
                () = connection => false,
                () = turns => true,
            }
        });
        assert_eq!(ended.await, Ok(true));
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.unwrap();
        let count = answers.matches("HTTP/1.1 200 OK").count();
        assert!((1..=11).contains(&count), "{count} answers in 10 turns");
    }

    #[test]
    fn failed_accepts_are_told_once_a_minute_with_their_number() {
        let mut failures = AcceptFailures::default();
        let error = io::Error::from_raw_os_error(libc::EMFILE);
        let (start, mut told) = (Instant::now(), Vec::new());
        for at in 0..=1200 {
            told.extend(failures.note(&error, start + at * RETRY_AFTER));
        }
        assert_eq!(told, [1, 600, 600]);
    }

    #[test]
    fn connections_take_an_eighth_of_the_descriptors_at_most() {
        for (descriptors, connections) in [
            (0, 1),
            (16, 2),
            (511, 63),
            (512, CONNECTIONS_MAX),
            (u64::MAX, CONNECTIONS_MAX),
        ] {
            assert_eq!(connections_max(descriptors), connections);
        }
    }
}
