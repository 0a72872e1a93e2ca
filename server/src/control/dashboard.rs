//! A page that shows what `/metrics` tells. It is the whole of it: nothing is loaded from
//! elsewhere, and nothing could be.

use http_body_util::Full;
use hyper::{Response, StatusCode, body::Bytes, header};

use super::admin;

/// What the page may do: run our script, use our style, ask us, and show the icon it carries.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// The page, or a part of it; `None` if `path` names none.
pub(super) fn answer(path: &str) -> Option<Response<Full<Bytes>>> {
    let (kind, body) = match path {
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
    let mut response = admin::answer(StatusCode::OK, kind, body);
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        let value = header::HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    Some(response)
}
