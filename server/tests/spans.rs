//! The span of a connection is entered around its callbacks.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use tidewheel::{Conn, Disconnect, Handler, Message, Request, Server, Verdict};
use tracing::Span;

#[path = "support/mod.rs"]
mod support;

use support::{client, ms, wait};

/// A handler with a span for each connection.
struct Application;

impl Handler for Application {
    type State = Span;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<Span> {
        tracing::info!("upgrade");
        Verdict::accept(tracing::info_span!("connection", path = request.path()))
    }

    fn open(&mut self, _: &mut Conn<'_, Self>) {
        tracing::info!("open");
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        tracing::info!("message");
        conn.send(message);
    }

    fn close(&mut self, _: &mut Conn<'_, Self>, _: &Disconnect) {
        tracing::info!("close");
    }

    fn span<'s>(&self, state: &'s Span) -> Option<&'s Span> {
        Some(state)
    }
}

/// The lines of the log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut log = self.0.lock().expect("the lock is not poisoned");
        log.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The lines of the application, without those of the server.
    fn lines(&self) -> Vec<String> {
        let log = self.0.lock().expect("the lock is not poisoned");
        let text = String::from_utf8_lossy(&log);
        let lines = text.lines().filter(|line| line.contains(" spans: "));
        lines
            .filter_map(|line| line.split_once("INFO "))
            .map(|(_, event)| event.to_owned())
            .collect()
    }
}

#[test]
fn events_of_a_callback_have_the_fields_of_the_span_of_its_connection() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let server = Server::builder()
        .listen("127.0.0.1:0")
        .bind()
        .expect("a free port");
    let address = server.address();
    let _running = server
        .start(|_| Ok(Application))
        .expect("io_uring is available");
    let mut clients = ["/a", "/b"].map(|path| {
        let mut client = client::Client::connect_to(address).expect("the server accepts");
        client.send_request(path);
        client.accept();
        client
    });
    for client in &mut clients {
        client.send(&client::text("hello"));
        client.expect(client::FIN | client::TEXT, "hello");
    }
    for client in clients {
        drop(client);
    }
    wait::until(ms(10_000), "calls of `close`", || log.lines().len() == 8);
    let mut lines = log.lines();
    lines.sort_unstable();
    let expected = [
        "connection{path=\"/a\"}: spans: close",
        "connection{path=\"/a\"}: spans: message",
        "connection{path=\"/a\"}: spans: open",
        "connection{path=\"/b\"}: spans: close",
        "connection{path=\"/b\"}: spans: message",
        "connection{path=\"/b\"}: spans: open",
        "spans: upgrade",
        "spans: upgrade",
    ];
    assert_eq!(lines, expected);
}
