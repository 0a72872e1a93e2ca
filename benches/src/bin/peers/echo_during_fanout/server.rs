//! A server that echoes, and fans out.

use std::net::Ipv4Addr;

use tidewheel::{Conn, Handler, Message, Request, Sent, Server, Verdict};

use crate::{
    publisher::{PUBLISHER_PATH, SUBSCRIBER_PATH},
    server_process::report_listening,
};

/// Path of a client whose messages are echoed.
pub(crate) const ECHO_PATH: &str = "/echo";

const TOPIC: &str = "all";

struct EchoAndFanout;

enum Role {
    EchoClient,
    Subscriber,
    Publisher,
}

impl Handler for EchoAndFanout {
    type State = Role;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<Role> {
        Verdict::accept(match request.path() {
            ECHO_PATH => Role::EchoClient,
            SUBSCRIBER_PATH => Role::Subscriber,
            PUBLISHER_PATH => Role::Publisher,
            path => unreachable!("no client has the path {path}"),
        })
    }

    fn open(&mut self, conn: &mut Conn<'_, Self>) {
        if let Role::Subscriber = conn.state() {
            conn.subscribe(TOPIC).expect("the topic is valid");
        }
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        match conn.state() {
            Role::EchoClient => assert!(conn.send(message) != Sent::Closed),
            Role::Subscriber => unreachable!("subscribers send nothing"),
            Role::Publisher => conn.publish(TOPIC, message).expect("the topic is valid"),
        }
    }
}

/// Serves until the process ends. Prints the address of the listener, then that of the admin listener.
pub(crate) fn serve(shards: u16) {
    let server = Server::builder()
        // One loopback address has too few ports for all subscribers.
        .listen("0.0.0.0:0")
        .admin("127.0.0.1:0")
        .configure(|config| {
            config.shards = Some(shards);
            // The subscribers do not answer.
            config.ping_interval = None;
        })
        .pin_threads(true)
        .raise_descriptor_limit(true)
        .bind()
        .expect("loopback is up");
    let address = (Ipv4Addr::LOCALHOST, server.address().port()).into();
    let admin = server
        .admin_address()
        .expect("the server has an admin listener");
    let running = server
        .start(|_shard| Ok(EchoAndFanout))
        .expect("io_uring is available");
    let ready = || {
        report_listening(address);
        println!("{admin}");
    };
    let _ = running.run_until_signal(ready);
}
