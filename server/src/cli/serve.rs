//! `tidewheel serve`

use std::{borrow::Cow, sync::Arc};

use percent_encoding::percent_decode_str;

use super::{RunError, options::Settled};
use crate::{
    CloseCode, Conn, Handler, Message, PublishError, Rejection, Request, Verdict,
    topic::check_pattern,
};

/// A client of `/a/b` has subscribed to `a/b`, and what it sends is published there.
#[derive(Clone, Debug)]
pub(super) struct Serve {
    subprotocols: Arc<[String]>,
}

/// What a client has asked for.
#[derive(Debug)]
pub(super) struct Place {
    topic: Box<str>,
    /// Whether it gets what it sends itself.
    echo: bool,
}

impl Handler for Serve {
    type State = Place;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<Place> {
        match place(request) {
            Ok(place) => super::accept(request, &self.subprotocols, place),
            Err(rejection) => Verdict::reject(rejection),
        }
    }

    fn open(&mut self, conn: &mut Conn<'_, Place>) {
        let topic = conn.state().topic.clone();
        // It is a pattern, as was seen when it was asked for.
        let _ = conn.subscribe(&topic);
    }

    fn message(&mut self, conn: &mut Conn<'_, Place>, message: Message<'_>) {
        let Place { topic, echo } = conn.state();
        let (topic, echo) = (topic.clone(), *echo);
        let published = if echo {
            conn.publish(&topic, message)
        } else {
            conn.publish_to_others(&topic, message)
        };
        let Err(error) = published else {
            return;
        };
        let code = match error {
            // The path is a pattern: there is nothing to publish to.
            PublishError::Topic(_) => CloseCode::POLICY_VIOLATION,
            PublishError::Busy => CloseCode::TRY_AGAIN_LATER,
        };
        // The reason fits a Close.
        let _ = conn.close(code, &error.to_string());
    }
}

/// What the request's path and query ask for.
fn place(request: &Request<'_>) -> Result<Place, Rejection> {
    let path = request.path().trim_start_matches('/');
    let topic: Cow<'_, str> = percent_decode_str(path)
        .decode_utf8()
        .map_err(|_| Rejection::new(400, "the path is not UTF-8"))?;
    check_pattern(&topic).map_err(|error| {
        Rejection::new(
            404,
            format!("the path is the topic, as in /orders/eu: {error}"),
        )
    })?;
    Ok(Place {
        topic: topic.into(),
        echo: echo(request.query().unwrap_or_default())?,
    })
}

/// Whether a query asks for a client's own messages. Proxies and clients add parameters of their own, which
/// are not looked at.
fn echo(query: &str) -> Result<bool, Rejection> {
    let decode = |text| percent_decode_str(text).decode_utf8_lossy();
    let mut echo = None;
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name);
        if !name.eq_ignore_ascii_case("echo") {
            continue;
        }
        if name != "echo" {
            let message = format!("the parameter {name} is unknown; write echo");
            return Err(Rejection::new(400, message));
        }
        let value = match decode(value).to_ascii_lowercase().as_str() {
            "true" => true,
            "false" => false,
            _ => return Err(Rejection::new(400, "echo is true or false")),
        };
        if echo.replace(value).is_some() {
            return Err(Rejection::new(400, "echo stands twice in the query"));
        }
    }
    Ok(echo.unwrap_or(true))
}

/// Serves until a signal, having said on standard output where.
pub(super) fn run(options: &Settled) -> Result<(), RunError> {
    let serve = Serve {
        subprotocols: Arc::clone(&options.subprotocols),
    };
    super::run(options, move |_| serve.clone())
}
