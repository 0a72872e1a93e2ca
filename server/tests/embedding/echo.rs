//! An echo server that records the ends of its connections.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tidewheel::{
    Cause, CloseCode, Conn, Disconnect, Handler, Message, Request, Server, ServerBuilder, Verdict,
};

use crate::support::client::{self, Client};

/// A handler that echoes, and closes its connection on the message `close`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Echo {
    pub(crate) causes: Arc<Mutex<Vec<Cause>>>,
}

impl Handler for Echo {
    type State = ();

    fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
        Verdict::accept(())
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        match message.as_text() {
            Some("close") => conn
                .close(CloseCode::NORMAL_CLOSURE, "")
                .expect("the code may be sent"),
            _ => _ = conn.send(message),
        }
    }

    fn close(&mut self, _: &mut Conn<'_, Self>, end: &Disconnect) {
        let mut causes = self.causes.lock().expect("the lock is not poisoned");
        causes.push(end.cause);
    }
}

/// The settings of a server with two shards on a free port.
pub(crate) fn builder() -> ServerBuilder {
    Server::builder()
        .listen("127.0.0.1:0")
        .configure(|config| config.shards = Some(2))
}

/// Opens a connection, and asserts that it echoes.
pub(crate) fn open(address: SocketAddr) -> Client {
    let mut client = Client::connect_to(address).expect("the server accepts a connection");
    client.send(client::REQUEST.as_bytes());
    client.accept();
    client.send(&client::text("hello"));
    client.expect(client::FIN | client::TEXT, "hello");
    client
}
