//! Tidewheel.

use std::thread;

use tidewheel::{Conn, Handler, Message, Request, Server, Verdict};

use super::{DURATION, LOGIN_PATH};
use crate::server_process::report_listening;

struct Authenticate;

impl Handler for Authenticate {
    type State = ();

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<()> {
        if request.path() != LOGIN_PATH {
            return Verdict::accept(());
        }
        Verdict::later(async {
            tokio::time::sleep(DURATION).await;
            Verdict::accept(())
        })
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        conn.send(message);
    }
}

/// Serves on one shard.
pub(super) fn serve() {
    let server = Server::builder()
        .listen("127.0.0.1:0")
        .configure(|config| config.shards = Some(1))
        .pin_threads(true)
        .raise_descriptor_limit(true)
        .bind()
        .expect("loopback is up");
    let address = server.address();
    let started = server.start(|_shard| Ok(Authenticate));
    let _running = started.expect("io_uring is available");
    report_listening(address);
    loop {
        thread::park();
    }
}
