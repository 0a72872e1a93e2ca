//! Tidewheel.

use std::{net::SocketAddr, process::ExitCode, thread};

use tidewheel::{Conn, Handler, Message, Request, Server, Verdict};

use super::Settings;
use crate::server_process::report_listening;

/// Runs `tidewheel echo` on one shard. The admin listener is off, because its default port may be in use.
pub(super) fn echo(listen: SocketAddr, settings: Settings) -> ExitCode {
    let mut arguments: Vec<String> = ["tidewheel", "echo", "--shards", "1", "--admin", "off"]
        .map(str::to_owned)
        .into();
    arguments.extend(["--listen".to_owned(), listen.to_string()]);
    for (name, seconds) in [
        ("--ping-interval", settings.ping_interval),
        ("--ping-timeout", settings.timeout),
        ("--close-timeout", settings.timeout),
    ] {
        if let Some(seconds) = seconds {
            arguments.extend([name.to_owned(), format!("{seconds}s")]);
        }
    }
    tidewheel::cli::main(arguments, None)
}

/// A handler like that of `tidewheel serve`: the path is the topic.
struct Serve;

impl Handler for Serve {
    type State = Box<str>;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<Box<str>> {
        Verdict::accept(request.path().trim_start_matches('/').into())
    }

    fn open(&mut self, conn: &mut Conn<'_, Self>) {
        let (topic, link) = conn.split();
        link.subscribe(topic).expect("the path is a topic");
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        let (topic, link) = conn.split();
        link.publish(topic, message).expect("the path is a topic");
    }
}

/// Runs a server of one shard with [`Serve`].
pub(super) fn fan_out(listen: SocketAddr) {
    let server = Server::builder()
        .listen(listen)
        .configure(|config| {
            config.shards = Some(1);
            // The other servers do not ping, and the clients do not answer.
            config.ping_interval = None;
        })
        .pin_threads(true)
        .raise_descriptor_limit(true)
        .bind()
        .expect("the address is free");
    let address = server.address();
    let _running = server
        .start(|_shard| Ok(Serve))
        .expect("io_uring is available");
    report_listening(address);
    loop {
        thread::park();
    }
}
