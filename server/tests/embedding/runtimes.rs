//! Servers inside and outside of asynchronous runtimes, with and without signals.

use std::{net::SocketAddr, sync::mpsc, thread, time::Duration};

use rustix::process::{Signal, getpid, kill_process};
use tidewheel::{Error, Publisher, Running};
use tokio::{runtime::Builder, task::spawn_blocking};

use crate::{
    echo::{self, Echo},
    support::{SLACK, client, client::End, ms, process::get, turn, wait},
};

/// Longer than a client takes to answer a Close.
const TIMEOUT: Duration = ms(10_000);

/// Starts a server with an admin listener. Returns the addresses of both listeners.
fn start() -> (Running, SocketAddr, SocketAddr) {
    let server = echo::builder().admin("127.0.0.1:0").bind();
    let server = server.expect("free ports");
    let address = server.address();
    let admin = server.admin_address().expect("an admin listener");
    let running = server.start(|_| Ok(Echo::default()));
    (running.expect("io_uring is available"), address, admin)
}

/// Uses a server, calls `end`, and answers the Close.
fn use_and_end(address: SocketAddr, admin: SocketAddr, end: impl FnOnce()) {
    let mut client = echo::open(address);
    assert!(get(admin, "/readyz").starts_with("HTTP/1.1 200 "));
    end();
    assert_eq!(client.frame().close_code(), 1001);
    let answer = get(admin, "/readyz");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    client.send(&client::close(1001, ""));
    assert_eq!(client.end(), End::Fin);
}

fn signal() {
    kill_process(getpid(), Signal::TERM).expect("a process may signal itself");
}

/// Runs `wait` on a runtime of each kind, with a server that is started within it, and ends the server by `end`.
fn on_each_runtime<F>(
    wait: impl Fn(Running) -> F,
    end: impl Fn(&Publisher) + Clone + Send + 'static,
) where
    F: Future<Output = Result<(), Error>>,
{
    let multi_thread = Builder::new_multi_thread().enable_all().build();
    let current_thread = Builder::new_current_thread().enable_all().build();
    for runtime in [multi_thread, current_thread] {
        let result = runtime.expect("a runtime").block_on(async {
            let (running, address, admin) = start();
            let (publisher, end) = (running.publisher(), end.clone());
            let ended = wait(running);
            let clients = spawn_blocking(move || {
                use_and_end(address, admin, || end(&publisher));
            });
            let result = ended.await;
            clients.await.expect("the clients do not panic");
            result
        });
        assert!(result.is_ok(), "{result:?}");
    }
}

#[test]
fn a_server_inside_of_a_runtime_ends_after_a_drain() {
    on_each_runtime(Running::wait, |publisher| publisher.drain(TIMEOUT));
}

#[test]
fn a_server_inside_of_a_runtime_ends_after_a_signal() {
    let _turn = turn::take();
    on_each_runtime(Running::until_signal, |_| signal());
}

#[test]
fn a_runtime_may_be_blocked_until_the_server_ends() {
    on_each_runtime(
        |running| async { running.join() },
        |publisher| publisher.drain(TIMEOUT),
    );
}

#[test]
fn a_server_without_a_runtime_serves_its_admin_listener_and_ends_after_a_drain() {
    let (running, address, admin) = start();
    let publisher = running.publisher();
    let joined = thread::spawn(|| running.join());
    use_and_end(address, admin, || publisher.drain(TIMEOUT));
    assert!(joined.join().expect("the thread does not panic").is_ok());
    let refused = std::net::TcpStream::connect(admin);
    assert!(refused.is_err(), "the admin listener is closed");
}

#[test]
fn a_server_without_a_runtime_ends_after_a_signal() {
    let _turn = turn::take();
    let (running, address, admin) = start();
    let (ready, is_ready) = mpsc::channel();
    let ended =
        thread::spawn(|| running.run_until_signal(move || ready.send(()).expect("a receiver")));
    is_ready.recv().expect("signals are handled");
    use_and_end(address, admin, signal);
    assert!(ended.join().expect("the thread does not panic").is_ok());
}

#[test]
fn a_second_signal_ends_the_wait_with_an_error() {
    let _turn = turn::take();
    let (running, address, _) = start();
    let mut client = echo::open(address);
    let ended = thread::spawn(|| running.run_until_signal(signal));
    assert_eq!(client.frame().close_code(), 1001);
    // A signal within 500 ms would count as the same.
    wait::pause(ms(600));
    signal();
    let ended = ended.join().expect("the thread does not panic");
    assert!(matches!(ended, Err(Error::Interrupted)), "{ended:?}");
    assert_eq!(client.end(), End::Reset);
}

#[test]
fn dropping_a_future_stops_the_server() {
    let (running, address, admin) = start();
    let mut client = echo::open(address);
    drop(running.wait());
    assert_eq!(client.end(), End::Reset);
    let start = wait::now();
    let refused = std::net::TcpStream::connect(admin);
    assert!(refused.is_err(), "the admin listener is closed");
    wait::assert_within(start, SLACK, "the refusal");
}
