//! Tidewheel.

use std::{future::pending, net::SocketAddr, process::ExitCode, thread};

use tidewheel::{Config, Conn, Handler, Message, Request, Server, Verdict};

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

/// A handler that echoes, and has a task for each connection.
#[derive(Clone)]
struct EchoWithTasks;

impl Handler for EchoWithTasks {
    type State = ();

    fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
        Verdict::accept(())
    }

    fn open(&mut self, conn: &mut Conn<'_, Self>) {
        conn.spawn(pending::<()>(), |_, _, ()| ());
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        conn.send(message);
    }
}

/// Runs a server of one shard with [`EchoWithTasks`].
pub(super) fn echo_with_tasks(listen: SocketAddr) {
    serve(listen, |_| (), EchoWithTasks);
}

/// A handler like that of `tidewheel serve`: the path is the topic.
#[derive(Clone)]
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
    // The other servers do not ping, and the clients do not answer.
    serve(listen, |config| config.ping_interval = None, Serve);
}

/// Runs a server of one shard.
fn serve(
    listen: SocketAddr,
    configure: impl FnOnce(&mut Config),
    handler: impl Handler + Clone + Send,
) {
    let server = Server::builder()
        .listen(listen)
        .configure(configure)
        .configure(|config| config.shards = Some(1))
        .pin_threads(true)
        .raise_descriptor_limit(true)
        .bind()
        .expect("the address is free");
    let address = server.address();
    let _running = server
        .start(|_shard| Ok(handler))
        .expect("io_uring is available");
    report_listening(address);
    loop {
        thread::park();
    }
}
