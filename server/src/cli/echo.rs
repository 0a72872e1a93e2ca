//! `tidewheel echo`

use super::options::Settled;
use crate::{Conn, Error, Handler, Message, Request, Verdict};

/// What all connections are subscribed to, if anybody may publish.
const EVERYBODY: &str = "all";

#[derive(Clone, Copy, Debug)]
struct Echo {
    /// Whether anybody may publish.
    subscribes: bool,
}

impl Handler for Echo {
    type State = ();

    fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
        Verdict::accept(())
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
pub(super) fn run(options: &Settled) -> Result<(), Error> {
    let subscribes = options.publish_token.is_some();
    super::run(options, move |_| Echo { subscribes })
}
