//! `tidewheel serve`: the path of a client is its topic.

use std::sync::Arc;

use percent_encoding::percent_decode_str;

use super::{error::RunError, run, settings::Settings};
use crate::{
    CloseCode, Conn, Handler, Message, PublishError, Request, Response, Verdict,
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
            Err(response) => Verdict::reject(response),
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
fn subscription(request: &Request<'_>) -> Result<Subscription, Response> {
    let path = request.path();
    let path = path.strip_prefix('/').unwrap_or(path);
    // The path is UTF-8, because the request has reached the handler.
    let topic = percent_decode_str(path).decode_utf8_lossy();
    check_pattern(&topic).map_err(|error| {
        let message = format!("the path is the topic, as in /orders/eu: {error}\n");
        Response::text(404, message)
    })?;
    Ok(Subscription {
        topic: topic.into(),
        echo: echo(request)?,
    })
}

/// Whether a query asks for a client's own messages. Other parameters are ignored, because proxies and clients
/// add some.
fn echo(request: &Request<'_>) -> Result<bool, Response> {
    let wrong = |message: String| Response::text(400, message + "\n");
    let mut echo = None;
    for (name, value) in request.parameters() {
        if !name.eq_ignore_ascii_case("echo") {
            continue;
        }
        if name != "echo" {
            return Err(wrong(format!(
                "the parameter {name} is unknown; write echo"
            )));
        }
        let value = match value.to_ascii_lowercase().as_str() {
            "true" => true,
            "false" => false,
            _ => return Err(wrong("the parameter echo must be true or false".to_owned())),
        };
        if echo.replace(value).is_some() {
            return Err(wrong("the query has the parameter echo twice".to_owned()));
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
