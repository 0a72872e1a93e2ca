//! `tidewheel serve`: the path of a client is its topic.

use std::{borrow::Cow, sync::Arc};

use percent_encoding::percent_decode_str;

use super::{error::RunError, run, settings::Settings};
use crate::{
    CloseCode, Conn, Handler, Message, PublishError, Rejection, Request, Verdict,
    topic::check_pattern,
};

/// A handler that subscribes a client of `/a/b` to `a/b`, and publishes its messages there.
#[derive(Clone, Debug)]
pub(super) struct Serve {
    /// In order of preference.
    subprotocols: Arc<[String]>,
}

/// The subscription that a client asks for with its path and query.
#[derive(Debug)]
pub(super) struct Subscription {
    /// A topic, or a pattern.
    topic: Box<str>,
    /// Whether the client receives its own messages.
    echo: bool,
}

impl Handler for Serve {
    type State = Subscription;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<Subscription> {
        match subscription(request) {
            Ok(subscription) => run::accept(request, &self.subprotocols, subscription),
            Err(rejection) => Verdict::reject(rejection),
        }
    }

    fn open(&mut self, conn: &mut Conn<'_, Self>) {
        let (subscription, link) = conn.split();
        // Cannot fail: `upgrade` has checked the pattern.
        let _ = link.subscribe(&subscription.topic);
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        let (Subscription { topic, echo }, link) = conn.split();
        let published = if *echo {
            link.publish(topic, message)
        } else {
            link.publish_to_others(topic, message)
        };
        let Err(error) = published else {
            return;
        };
        let code = match error {
            // The path is a pattern, which is not a topic to publish to.
            PublishError::Topic(_) => CloseCode::POLICY_VIOLATION,
            PublishError::Busy => CloseCode::TRY_AGAIN_LATER,
        };
        // Cannot fail: the reason is short enough for a Close frame.
        let _ = conn.close(code, &error.to_string());
    }
}

/// Parses the path and the query of a request.
fn subscription(request: &Request<'_>) -> Result<Subscription, Rejection> {
    let path = request.path();
    let path = path.strip_prefix('/').unwrap_or(path);
    let topic: Cow<'_, str> = percent_decode_str(path)
        .decode_utf8()
        .map_err(|_| Rejection::new(400, "the path is not UTF-8"))?;
    check_pattern(&topic).map_err(|error| {
        Rejection::new(
            404,
            format!("the path is the topic, as in /orders/eu: {error}"),
        )
    })?;
    Ok(Subscription {
        topic: topic.into(),
        echo: echo(request.query().unwrap_or_default())?,
    })
}

/// Whether a query asks for a client's own messages. Other parameters are ignored, because proxies and clients
/// add some.
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
            _ => {
                let message = "the parameter echo must be true or false";
                return Err(Rejection::new(400, message));
            }
        };
        if echo.replace(value).is_some() {
            let message = "the query has the parameter echo twice";
            return Err(Rejection::new(400, message));
        }
    }
    Ok(echo.unwrap_or(true))
}

/// Serves until a signal has drained the server.
pub(super) fn run(settings: &Settings) -> Result<(), RunError> {
    let serve = Serve {
        subprotocols: Arc::clone(&settings.subprotocols),
    };
    run::run(settings, |_| Ok(serve))
}
