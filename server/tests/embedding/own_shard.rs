//! A server that its own handler stops.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use tidewheel::{Conn, Handler, Message, Request, Running, Verdict};

use crate::{
    echo,
    support::client::{self, Client, End},
};

/// The server, from its start until a handler takes it.
type Owned = Arc<Mutex<Option<Running>>>;

/// A handler that ends its server in the way that a message names.
#[derive(Clone)]
struct Owner {
    server: Owned,
    ended: mpsc::Sender<()>,
}

impl Handler for Owner {
    type State = ();

    fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
        Verdict::accept(())
    }

    fn message(&mut self, _: &mut Conn<'_, Self>, message: Message<'_>) {
        let server = self.server.lock().expect("the lock is not poisoned").take();
        let mut server = server.expect("the server runs");
        if message.as_text() == Some("stop") {
            server.stop();
        }
        drop(server);
        self.ended.send(()).expect("the test waits");
    }
}

#[test]
fn a_handler_stops_its_own_server() {
    for way in ["stop", "drop"] {
        let server = echo::builder().bind().expect("a free port");
        let address = server.address();
        let (ended, end) = mpsc::channel();
        let owned = Owned::default();
        let owner = Owner {
            server: Arc::clone(&owned),
            ended,
        };
        let running = server.start(|_| Ok(owner)).expect("io_uring is available");
        *owned.lock().expect("the lock is not poisoned") = Some(running);
        let mut client = Client::connect_to(address).expect("the server accepts a connection");
        client.send(client::REQUEST.as_bytes());
        client.accept();
        client.send(&client::text(way));
        let ended = end.recv_timeout(Duration::from_secs(20));
        ended.unwrap_or_else(|error| panic!("{way}: {error}"));
        assert_eq!(client.end(), End::Reset, "{way}");
    }
}
