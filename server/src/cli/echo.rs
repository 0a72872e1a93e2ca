//! `tidewheel echo`

use super::options::Settled;
use crate::{Conn, Error, Handler, Message, Request, Verdict};

#[derive(Clone, Copy, Debug)]
struct Echo;

impl Handler for Echo {
    type State = ();

    fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
        Verdict::accept(())
    }

    fn message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        // What a slow reader does not take is dealt with by the policy for such.
        let _ = conn.send(message);
    }
}

/// Serves until a signal, having said on standard output where.
pub(super) fn run(options: &Settled) -> Result<(), Error> {
    super::run(options, |_| Echo)
}
