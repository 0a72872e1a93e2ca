//! `tidewheel echo`

use std::io::Write;

use super::options::Settled;
use crate::{Conn, Error, Handler, Message, Request, Server, Verdict};

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
    let mut server = Server::bind(options.listen.as_str(), options.config.clone())?;
    if let Some(admin) = &options.admin {
        server = server.with_admin(admin.as_str())?;
    }
    let (address, admin) = (server.address(), server.admin_address());
    server.start(|_| Echo)?.until_signal_once_ready(|| {
        let mut stdout = std::io::stdout().lock();
        // Who closed standard output does not want to know.
        if let Some(admin) = admin {
            let _ = writeln!(stdout, "admin on {admin}");
        }
        let _ = writeln!(stdout, "listening on {address}");
        let _ = stdout.flush();
    })
}
