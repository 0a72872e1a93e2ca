//! The dashboard, a page that shows `/metrics`. It loads nothing from other hosts.

use http_body_util::Full;
use hyper::{Response, StatusCode, body::Bytes, header};

use super::response;

/// Content Security Policy of the page: its script, its style, its icon, and requests to this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// The response with the page, its style or its script; `None` for any other path.
pub(super) fn respond(path: &str) -> Option<Response<Full<Bytes>>> {
    let (media_type, body) = match path {
        "/" => (
            "text/html; charset=utf-8",
            include_str!("dashboard/page.html"),
        ),
        "/dashboard.css" => (
            "text/css; charset=utf-8",
            include_str!("dashboard/style.css"),
        ),
        "/dashboard.js" => (
            "text/javascript; charset=utf-8",
            include_str!("dashboard/script.js"),
        ),
        _ => return None,
    };
    let mut page = response::with_body(StatusCode::OK, media_type, body);
    response::set(&mut page, header::CONTENT_SECURITY_POLICY, POLICY);
    response::set(&mut page, header::REFERRER_POLICY, "no-referrer");
    Some(page)
}
