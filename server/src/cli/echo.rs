//! `tidewheel echo`

use std::sync::Arc;

use super::{RunError, options::Settled};
use crate::{Conn, Handler, Message, Request, Verdict};

/// What all connections are subscribed to, if anybody may publish.
const EVERYBODY: &str = "all";

#[derive(Clone, Debug)]
struct Echo {
    /// Whether anybody may publish.
    subscribes: bool,
    subprotocols: Arc<[String]>,
}

impl Handler for Echo {
    type State = ();

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<()> {
        super::accept(request, &self.subprotocols, ())
    }

    fn open(&mut self, conn: &mut Conn<'_, ()>) {
        if self.subscribes {
            conn.subscribe(EVERYBODY).expect("it is a topic");
        }
    }

    fn message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        // What a slow reader does not take is dealt with by the policy for such.
        let _ = conn.send(message);
    }
}

/// Serves until a signal, having said on standard output where.
pub(super) fn run(options: &Settled) -> Result<(), RunError> {
    let echo = Echo {
        subscribes: options.publish_token.is_some(),
        subprotocols: Arc::clone(&options.subprotocols),
    };
    super::run(options, move |_| echo.clone())
}
