//! The start of a server with the handlers of an application.

use std::{error::Error as _, net::TcpStream, sync::Arc};

use tidewheel::{Conn, ConnectionId, Error, Handler, Message, Remote, Request, Server, Verdict};

use crate::support::client::{self, Client};

/// A handler that asks another shard's thread for its greeting, by the id of a connection.
struct Greeter {
    greeting: String,
    remote: Remote<Self>,
    /// The connection that was opened first, of all shards.
    first: Arc<std::sync::OnceLock<ConnectionId>>,
}

impl Handler for Greeter {
    type State = ();

    fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
        Verdict::accept(())
    }

    fn open(&mut self, conn: &mut Conn<'_, Self>) {
        self.first.get_or_init(|| conn.id());
    }

    fn message(&mut self, _: &mut Conn<'_, Self>, _: Message<'_>) {
        let first = *self.first.get().expect("a connection is open");
        let sent = self.remote.with(first, |greeter, conn| {
            conn.send(&*greeter.greeting);
        });
        sent.expect("the shard lives");
    }
}

#[test]
fn a_handler_is_made_with_the_number_of_its_shard_and_a_remote() {
    let server = Server::builder()
        .listen("127.0.0.1:0")
        .configure(|config| config.shards = Some(2))
        .bind()
        .expect("a free port");
    let address = server.address();
    let first = Arc::default();
    let _running = server
        .start(move |shard| {
            Ok(Greeter {
                greeting: format!("shard {} of {}", shard.index(), shard.shards()),
                remote: shard.remote(),
                first,
            })
        })
        .expect("io_uring is available");
    let mut clients: Vec<Client> = (0..2)
        .map(|_| {
            let mut client = Client::connect_to(address).expect("the server accepts a connection");
            client.send(client::REQUEST.as_bytes());
            client.accept();
            client
        })
        .collect();
    clients[1].send(&client::text("greet"));
    let greeting = String::from_utf8(clients[0].frame().payload).expect("a text");
    assert!(
        ["shard 0 of 2", "shard 1 of 2"].contains(&&*greeting),
        "{greeting}"
    );
}

#[derive(Debug, thiserror::Error)]
#[error("no such table")]
struct NoTable;

/// Opens the database of a shard.
fn open_database(shard: u16) -> Result<(), NoTable> {
    match shard {
        1 => Err(NoTable),
        _ => Ok(()),
    }
}

#[test]
fn an_error_of_the_application_fails_the_start_and_stops_the_started_shards() {
    let server = Server::builder()
        .listen("127.0.0.1:0")
        .configure(|config| config.shards = Some(2))
        .bind()
        .expect("a free port");
    let address = server.address();
    let error = server
        .start(|shard| {
            open_database(shard.index())?;
            Ok(Greeter {
                greeting: String::new(),
                remote: shard.remote(),
                first: Arc::default(),
            })
        })
        .expect_err("shard 1 has no database");
    assert!(matches!(error, Error::Handler { shard: 1, .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "cannot make the handler of shard 1: no such table"
    );
    let source = error.source().expect("the error of the application");
    assert!(source.is::<NoTable>());
    let refused = TcpStream::connect(address).expect_err("no shard listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_server_has_one_address() {
    let none = Server::builder().bind().expect_err("no address");
    assert!(matches!(none, Error::Addresses { got: 0 }), "{none}");
    let two = Server::builder().listen("127.0.0.1:0").listen("[::1]:0");
    let two = two.bind().expect_err("two addresses");
    assert_eq!(
        two.to_string(),
        "the server has 2 addresses to listen on; it must have one"
    );
}
