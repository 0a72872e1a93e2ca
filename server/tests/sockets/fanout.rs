//! `tidewheel serve`: what one says on a path, all others on it hear, whatever their shard.

use crate::support::{
    client::{CLOSE, Client, REQUEST, text},
    ms,
    process::{Server, serve},
    wait,
};

fn join(server: &Server, path: &str) -> Client {
    let mut client = Client::connect(server);
    client.send(REQUEST.replace("/chat", path).as_bytes());
    client.accept();
    client
}

#[test]
fn a_message_reaches_every_subscriber_on_every_shard_once_and_in_order() {
    let server = Server::spawn(&mut serve("--shards 3"));
    let mut members: Vec<Client> = (0..30).map(|_| join(&server, "/room/1")).collect();
    let mut elsewhere = join(&server, "/room/2");
    let mut watcher = join(&server, "/room/*");
    for at in 0..50 {
        members[0].send(&text(&format!("{at}")));
    }
    for member in members.iter_mut().chain([&mut watcher]) {
        for at in 0..50 {
            member.expect(0x81, format!("{at}"));
        }
    }
    elsewhere.send(&text("alone"));
    elsewhere.expect(0x81, "alone");
    watcher.expect(0x81, "alone");
    assert_eq!(server.metric("tidewheel_publishes_total", ""), 51);
    assert_eq!(server.metric("tidewheel_deliveries_total", ""), 50 * 31 + 2);
    assert_eq!(server.metric("tidewheel_subscriptions", ""), 32);
    drop((members, watcher, elsewhere));
    server.until_connections(0);
    assert_eq!(server.metric("tidewheel_topics", ""), 0);
}

#[test]
fn who_asks_for_no_echo_gets_none() {
    let server = Server::spawn(&mut serve("--shards 2"));
    let mut quiet = join(&server, "/a?echo=false");
    let mut loud = join(&server, "/a");
    quiet.send(&text("one"));
    loud.expect(0x81, "one");
    loud.send(&text("two"));
    loud.expect(0x81, "two");
    quiet.expect(0x81, "two");
}

#[test]
fn a_path_that_is_no_topic_is_refused_and_a_pattern_cannot_be_spoken_to() {
    let server = Server::spawn(&mut serve(""));
    for (path, status) in [
        ("/", 404),
        ("/a//b", 404),
        ("/a/%ff", 400),
        ("/%3E/a", 404),
        ("/a?echo=maybe", 400),
    ] {
        let mut client = Client::connect(&server);
        client.send(REQUEST.replace("/chat", path).as_bytes());
        let head = client.head();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path}: {head}"
        );
    }
    let mut watcher = join(&server, "/a/%3E");
    let mut speaker = join(&server, "/a/%C3%A4");
    speaker.send(&text("heard"));
    watcher.expect(0x81, "heard");
    watcher.send(&text("to whom?"));
    let close = watcher.frame();
    assert_eq!((close.first, close.close_code()), (CLOSE, 1008));
}

#[test]
fn pages_of_other_origins_are_refused_unless_they_are_listed() {
    let server = Server::spawn(&mut serve(""));
    let from = |origin: &str| {
        let mut client = Client::connect(&server);
        let header = format!("Origin: {origin}\r\nHost: ");
        client.send(REQUEST.replace("Host: ", &header).as_bytes());
        client.head()
    };
    assert!(from("https://server.example.com").starts_with("HTTP/1.1 101 "));
    assert!(from("https://evil.example").starts_with("HTTP/1.1 403 "));
}

#[test]
fn http_publishes_with_the_token() {
    let server = Server::spawn(&mut serve("--shards 2 --publish-token s3cret"));
    let mut members: Vec<Client> = (0..8).map(|_| join(&server, "/news/eu")).collect();
    let post = |topic: &str, headers: &str, body: &str| {
        let request = format!(
            "POST /publish/{topic} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        server.admin_raw(&request)
    };
    let token = "Authorization: Bearer s3cret\r\n";
    let as_text = format!("{token}Content-Type: text/plain\r\n");
    assert!(post("news/eu", "", "x").starts_with("HTTP/1.1 401 "));
    assert!(post("news/eu", "Authorization: Bearer s3cre7\r\n", "x").starts_with("HTTP/1.1 401 "));
    assert!(post("news/*", token, "x").starts_with("HTTP/1.1 404 "));
    assert!(post("news/eu", &as_text, "hello").starts_with("HTTP/1.1 202 "));
    assert!(post("news/eu", token, "binary").starts_with("HTTP/1.1 202 "));
    for member in &mut members {
        member.expect(0x81, "hello");
        member.expect(0x82, "binary");
    }
    let metrics = server.admin("/metrics");
    assert!(
        metrics.contains("\ntidewheel_remote_publishes_total 2\n"),
        "{metrics}"
    );
    let closed = Server::spawn(&mut serve(""));
    let request = "POST /publish/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                   Content-Length: 0\r\n\r\n";
    assert!(closed.admin_raw(request).starts_with("HTTP/1.1 403 "));
}

#[test]
fn echo_with_a_token_publishes_to_everybody() {
    let server = Server::start("--shards 2 --publish-token s3cret");
    let mut clients: Vec<Client> = (0..8).map(|_| Client::open(&server)).collect();
    clients[0].send(&text("to myself"));
    clients[0].expect(0x81, "to myself");
    let request = "POST /publish/all HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                   Content-Length: 5\r\nAuthorization: Bearer s3cret\r\n\r\nhello";
    assert!(server.admin_raw(request).starts_with("HTTP/1.1 202 "));
    for client in &mut clients {
        client.expect(0x82, "hello");
    }
}

#[test]
fn a_stalled_reader_costs_its_queue_and_the_others_nothing() {
    let server = Server::spawn(&mut serve(
        "--shards 2 --max-send-queue 256KiB --topic-policy feed=drop-oldest --ping-interval off",
    ));
    let mut stalled = Client::connect_narrow(&server);
    stalled.send(REQUEST.replace("/chat", "/feed").as_bytes());
    stalled.accept();
    let mut readers: Vec<Client> = (0..20).map(|_| join(&server, "/feed")).collect();
    let mut speaker = join(&server, "/feed?echo=false");
    let payload = "x".repeat(20_000);
    let before = server.memory("VmRSS");
    for _ in 0..500 {
        speaker.send(&text(&payload));
        for reader in &mut readers {
            reader.expect(0x81, &payload);
        }
    }
    let grown = server.memory("VmHWM").saturating_sub(before);
    assert!(grown < 12 << 20, "{grown} bytes, of 10 MB for each");
    assert!(server.metric("tidewheel_drops_total", "policy=\"drop_oldest\"") > 300);
    // It gets the newest when it reads on.
    speaker.send(&text("the end"));
    wait::until(ms(20_000), "the end comes", || {
        stalled.frame().payload == b"the end"
    });
}
