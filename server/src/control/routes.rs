//! The paths of the admin listener, and the responses to their requests.

use std::borrow::Cow;

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::{Body, Bytes},
    header,
};
use tidewheel_codec::handshake::is_authority;

use super::{
    dashboard,
    media::MetricsFormat,
    metrics,
    publish::{self, Publishing},
    response::{self, text},
    slots::Slot,
};
use crate::{Hosts, Publisher, fanout::Readiness};

/// The state that responses are made from.
pub(super) struct Routes {
    pub(super) publisher: Publisher,
    /// The accepted values of `Host`.
    pub(super) hosts: Hosts,
    /// `None`: publishing is refused.
    pub(super) publishing: Option<Publishing>,
    /// Returns the number of lost log lines.
    pub(super) log_lines_lost: fn() -> u64,
}

/// The methods of the pages.
const PAGE_METHODS: &str = "GET, HEAD, OPTIONS";

/// The methods of `/publish/TOPIC`.
const TOPIC_METHODS: &str = "OPTIONS, POST";

impl Routes {
    /// Returns the response to a request.
    pub(super) async fn respond<B>(&self, request: Request<B>, slot: &Slot) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
    {
        if let Some(refusal) = self.check_host(&request) {
            return refusal;
        }
        let path = request.uri().path();
        let method = request.method();
        if path.starts_with(publish::PREFIX) {
            return match (method, &self.publishing) {
                (&Method::OPTIONS, _) => response::options(StatusCode::OK, TOPIC_METHODS),
                (&Method::POST, Some(publishing)) => {
                    publishing.publish(&self.publisher, slot, request).await
                }
                (&Method::POST, None) => text(
                    StatusCode::FORBIDDEN,
                    "publishing is disabled: the server has no publish token\n",
                ),
                _ => response::method_not_allowed(TOPIC_METHODS),
            };
        }
        // `OPTIONS *` is about the whole server (RFC 9110 9.3.7).
        if method == Method::OPTIONS && path == "*" {
            return response::options(StatusCode::OK, "GET, HEAD, OPTIONS, POST");
        }
        let Some(page) = self.page(&request) else {
            return text(
                StatusCode::NOT_FOUND,
                "the paths are / (a dashboard), /metrics, /healthz, /readyz, and /publish/TOPIC for POST\n",
            );
        };
        match *method {
            // hyper leaves out the body of a response to HEAD.
            Method::GET | Method::HEAD => page,
            // Some health checks use OPTIONS, and look at the status.
            Method::OPTIONS => response::options(page.status(), PAGE_METHODS),
            _ => response::method_not_allowed(PAGE_METHODS),
        }
    }

    /// The response to a request for a host that is not served, or without one (RFC 9112 3.2).
    fn check_host<B>(&self, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        // A client of HTTP/1.0 may leave it out: it is not a browser.
        let hosts = request.headers().get_all(header::HOST).iter().count();
        if hosts > 1 || hosts == 0 && request.version() == Version::HTTP_11 {
            let message = "the request must have one Host header\n";
            return Some(text(StatusCode::BAD_REQUEST, message));
        }
        let host = target_host(request)?;
        if !is_authority(&host) {
            return Some(text(StatusCode::BAD_REQUEST, "the host is not valid\n"));
        }
        let rejection = self.hosts.check(&host).err()?;
        let message = format!("{}\n", rejection.message());
        Some(text(StatusCode::MISDIRECTED_REQUEST, message))
    }

    /// The page at the path of a request; `None` if there is none.
    fn page<B>(&self, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        let page = match request.uri().path() {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => match self.publisher.readiness() {
                Readiness::Serving => text(StatusCode::OK, "ready\n"),
                Readiness::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
                Readiness::Failed => text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "draining, because a shard has failed\n",
                ),
            },
            "/metrics" => {
                let format = MetricsFormat::preferred(request.headers());
                let metrics = metrics::encode(&self.publisher, (self.log_lines_lost)(), format);
                let mut page = response::with_body(StatusCode::OK, format.content_type(), metrics);
                response::set(&mut page, header::VARY, "Accept");
                page
            }
            path => return dashboard::respond(path),
        };
        Some(page)
    }
}

/// The host of a request: of its target if that is an absolute URI (RFC 9112 3.2.2), or else `Host`.
fn target_host<B>(request: &Request<B>) -> Option<Cow<'_, str>> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.as_str().into());
    }
    let host = request.headers().get(header::HOST)?;
    Some(String::from_utf8_lossy(host.as_bytes()))
}
