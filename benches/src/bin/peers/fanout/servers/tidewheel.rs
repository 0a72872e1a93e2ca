use std::thread;

use tidewheel::{Config, Conn, Handler, Message, Request, Server, Verdict};

use crate::child::announce;

/// As `tidewheel serve`: the path is the topic.
struct Serve;

impl Handler for Serve {
    type State = Box<str>;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<Box<str>> {
        Verdict::accept(request.path().trim_start_matches('/').into())
    }

    fn open(&mut self, conn: &mut Conn<'_, Box<str>>) {
        let topic = conn.state().clone();
        conn.subscribe(&topic).expect("the path is a topic");
    }

    fn message(&mut self, conn: &mut Conn<'_, Box<str>>, message: Message<'_>) {
        let topic = conn.state().clone();
        conn.publish(&topic, message).expect("the path is a topic");
    }
}

pub(super) fn serve() {
    let config = Config {
        shards: Some(1),
        // The others do not ping, and the clients do not answer.
        ping_interval: None,
        ..Config::default()
    };
    let server = Server::bind("127.0.0.1:0", config).expect("there is a loopback");
    let address = server.address();
    let _running = server.start(|_shard| Serve).expect("there is io_uring");
    announce(address);
    loop {
        thread::park();
    }
}
