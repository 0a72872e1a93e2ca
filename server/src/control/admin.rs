//! The admin listener: HTTP for whoever watches the server.

use std::{convert::Infallible, rc::Rc, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};

use super::{dashboard, metrics, publish};
use crate::{Remote, fanout::Readiness, stats::Stats};

/// Where messages are published; the topic follows.
pub(super) const PUBLISH: &str = "/publish/";

/// How long a request's head may take, and its body.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The age at which a connection is closed, so that those that do not read give way to others.
const LIFETIME: Duration = Duration::from_secs(20);

/// Connections at a time; others wait in the listener's backlog.
pub(crate) const CONNECTIONS_MAX: usize = 64;

/// Bytes of all bodies of requests at a time.
pub(crate) const BODIES_MAX: usize = 16 << 20;

/// After an accept has failed for want of descriptors or memory.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What it answers from.
pub(super) struct Admin {
    pub(super) stats: Vec<Arc<Stats>>,
    pub(super) remote: Remote,
    /// What must be said to publish.
    pub(super) publish_token: Option<String>,
    /// Tells how many lines of the log were lost.
    pub(super) log_lines_lost: fn() -> u64,
    /// What is left of [`BODIES_MAX`].
    pub(super) bodies: Semaphore,
}

/// Answers requests for as long as the control plane runs.
pub(super) async fn serve(listener: TcpListener, admin: Admin) {
    let admin = Rc::new(admin);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept");
                tokio::time::sleep(RETRY_AFTER).await;
                continue;
            }
        };
        let admin = Rc::clone(&admin);
        tokio_uring::spawn(async move {
            let _place = place;
            let admin = &admin;
            let service = service_fn(|request: Request<Incoming>| async move {
                Ok::<_, Infallible>(match request.uri().path().strip_prefix(PUBLISH) {
                    Some(_) => publish::answer(admin, request).await,
                    None => admin.answer(&request),
                })
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            let served = match timeout(LIFETIME, connection.as_mut()).await {
                Ok(served) => served,
                Err(_) => {
                    // The answer under way is sent, unless nobody reads it.
                    connection.as_mut().graceful_shutdown();
                    timeout(HEAD_TIMEOUT, connection).await.unwrap_or(Ok(()))
                }
            };
            if let Err(error) = served {
                tracing::debug!(%error, "an admin connection has failed");
            }
        });
    }
}

impl Admin {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed here\n");
        }
        match request.uri().path() {
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
                let metrics = metrics::encode(&self.stats, &server);
                answer(StatusCode::OK, metrics::CONTENT_TYPE, metrics)
            }
            path => dashboard::answer(path).unwrap_or_else(|| {
                text(
                    StatusCode::NOT_FOUND,
                    "there are / (a dashboard), /metrics, /healthz, /readyz and, to publish, \
                     POST /publish/TOPIC\n",
                )
            }),
        }
    }
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
