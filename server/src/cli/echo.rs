//! `tidewheel echo`: every message goes back to its client.

use std::sync::Arc;

use super::{error::RunError, run, settings::Settings};
use crate::{Conn, Handler, Message, Request, Verdict};

/// The topic that all connections subscribe to if there is a publish token.
const TOPIC: &str = "all";

#[derive(Clone, Debug)]
struct Echo {
    /// Whether connections subscribe to [`TOPIC`].
    subscribes: bool,
    /// In order of preference.
    subprotocols: Arc<[String]>,
}

impl Handler for Echo {
    type State = ();

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<()> {
        run::accept(request, &self.subprotocols, ())
    }

    fn open(&mut self, conn: &mut Conn<'_, Self>) {
        if self.subscribes {
            conn.subscribe(TOPIC).expect("the name is a valid topic");
        }
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        // If the send queue is full, the slow-consumer policy has been applied.
        conn.send(message);
    }
}

/// Serves until a signal has drained the server.
pub(super) fn run(settings: &Settings) -> Result<(), RunError> {
    let echo = Echo {
        subscribes: settings.publish_token.is_some(),
        subprotocols: Arc::clone(&settings.subprotocols),
    };
    run::run(settings, |_| Ok(echo))
}
