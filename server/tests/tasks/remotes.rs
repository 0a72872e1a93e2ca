//! Closures of other threads.

use std::sync::Arc;

use tidewheel::{Conn, Handler, Message, Remote, RemoteError, Request, Server, Verdict};

use crate::{
    bench::{Bench, Tasks, ask, say},
    support::client::{FIN, TEXT},
};

#[test]
fn a_remote_reaches_a_connection_on_another_shard() {
    let bench = Bench::start(|_| ());
    let remote: Remote<Tasks> = bench.running.remote();
    for (mut client, id) in bench.open_on_two_shards() {
        let answer = remote.with(id, |_, conn| {
            conn.send("a direct message");
            conn.state().clone()
        });
        client.expect(FIN | TEXT, "a direct message");
        let path = answer.expect("the shard is not busy").wait();
        assert!(path.is_ok_and(|path| path.starts_with('/')));
        let panicking = remote.with(id, |_, _| panic!("in a closure"));
        assert_eq!(client.frame().close_code(), 1011);
        let answer = panicking.expect("the shard is not busy").wait();
        assert_eq!(answer, Err::<(), _>(RemoteError::Gone));
        let answer = remote.with(id, |_, _| ()).expect("the shard is not busy");
        assert_eq!(answer.wait(), Err(RemoteError::Gone));
    }
}

#[test]
fn another_thread_wakes_a_shard_that_waits_in_its_runtime_again_and_again() {
    let bench = Bench::start(|_| ());
    let publisher = bench.running.publisher();
    let mut clients = bench.open_on_two_shards();
    for (client, _) in &mut clients {
        bench.allow("a");
        ask(client, "gate a");
        client.expect(FIN | TEXT, "a");
    }
    for round in 0..20 {
        for (client, id) in &mut clients {
            let text = round.to_string();
            publisher.send(*id, &text).expect("the shard is not busy");
            client.expect(FIN | TEXT, &text);
            say(client, "hello");
        }
    }
}

#[test]
fn a_remote_for_another_handler_reaches_nobody() {
    struct Other;
    impl Handler for Other {
        type State = ();
        fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
            Verdict::accept(())
        }
        fn message(&mut self, _: &mut Conn<'_, Self>, _: Message<'_>) {}
    }
    let bench = Bench::start(|_| ());
    let remote: Remote<Other> = bench.running.remote();
    let [(mut client, id), _other] = bench.open_on_two_shards();
    let answer = remote.with(id, |_, _| ()).expect("the shard is not busy");
    assert_eq!(answer.wait(), Err(RemoteError::Gone));
    say(&mut client, "hello");
}

#[test]
fn an_id_of_another_server_reaches_no_shard_that_does_not_exist() {
    let bench = Bench::start(|_| ());
    let [(_one, id), (_other, other_id)] = bench.open_on_two_shards();
    let id = [id, other_id]
        .into_iter()
        .find(|id| id.to_string().starts_with("1-"));
    let id = id.expect("one connection is on the second shard");
    let small = Server::builder()
        .listen("127.0.0.1:0")
        .configure(|config| config.shards = Some(1))
        .bind()
        .expect("a free port");
    let shared = Arc::clone(&bench.shared);
    let small = small.start(move |_| Ok(Tasks { shared, outputs: 0 }));
    let small = small.expect("io_uring is available");
    let (remote, gone) = (small.remote::<Tasks>(), Err(RemoteError::Gone));
    assert_eq!(remote.send(id, "hello"), gone);
    assert_eq!(
        remote.close(id, tidewheel::CloseCode::NORMAL_CLOSURE, ""),
        gone
    );
    assert_eq!(remote.with(id, |_, _| ()).map(|_| ()), gone);
}
