//! A server that echoes, and fans out.

use std::net::Ipv4Addr;

use tidewheel::{Config, Conn, Handler, Message, Request, Sent, Server, Verdict};

use crate::{
    child::announce,
    publisher::{LISTENS, PUBLISHES},
};

/// What is sent there comes back.
pub(super) const ECHOES: &str = "/echo";

const TOPIC: &str = "all";

struct Beside;

enum Part {
    Echoes,
    Listens,
    Publishes,
}

impl Handler for Beside {
    type State = Part;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<Part> {
        Verdict::accept(match request.path() {
            ECHOES => Part::Echoes,
            LISTENS => Part::Listens,
            PUBLISHES => Part::Publishes,
            path => unreachable!("nobody asks for {path}"),
        })
    }

    fn open(&mut self, conn: &mut Conn<'_, Part>) {
        if let Part::Listens = conn.state() {
            conn.subscribe(TOPIC).expect("it is a topic");
        }
    }

    fn message(&mut self, conn: &mut Conn<'_, Part>, message: Message<'_>) {
        match conn.state() {
            Part::Echoes => assert!(conn.send(message) != Sent::Closed),
            Part::Listens => unreachable!("it has nothing to say"),
            Part::Publishes => conn.publish(TOPIC, message).expect("it is a topic"),
        }
    }
}

/// Serves until the process ends; says where it listens, and where its admin listener is.
pub(crate) fn serve(shards: u16) {
    let config = Config {
        shards: Some(shards),
        // The subscribers do not answer.
        ping_interval: None,
        ..Config::default()
    };
    // One address has too few ports for all.
    let server = Server::bind("0.0.0.0:0", config)
        .and_then(|server| server.with_admin("127.0.0.1:0", None))
        .expect("there is a loopback");
    let address = (Ipv4Addr::LOCALHOST, server.address().port()).into();
    let admin = server.admin_address().expect("it was asked for");
    let running = server.start(|_shard| Beside).expect("there is io_uring");
    let ready = || {
        announce(address);
        println!("{admin}");
    };
    let _ = running.until_signal_once_ready(ready);
}
