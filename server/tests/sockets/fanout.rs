//! Topics of `tidewheel serve`: a message reaches all subscribers of its topic on all shards.

use crate::support::{
    client::{CLOSE, Client, REQUEST, text},
    ms,
    process::{Server, serve},
    wait,
};

#[test]
fn a_message_reaches_every_subscriber_on_every_shard_once_and_in_order() {
    let server = Server::spawn(&mut serve("--shards 3"));
    let mut subscribers: Vec<Client> = (0..30)
        .map(|_| Client::open_path(&server, "/orders/1"))
        .collect();
    let mut other_topic = Client::open_path(&server, "/orders/2");
    let mut by_pattern = Client::open_path(&server, "/orders/*");
    for at in 0..50 {
        subscribers[0].send(&text(&format!("{at}")));
    }
    for subscriber in subscribers.iter_mut().chain([&mut by_pattern]) {
        for at in 0..50 {
            subscriber.expect(0x81, format!("{at}"));
        }
    }
    other_topic.send(&text("alone"));
    other_topic.expect(0x81, "alone");
    by_pattern.expect(0x81, "alone");
    assert_eq!(server.metric("tidewheel_publishes_total", ""), 51);
    assert_eq!(server.metric("tidewheel_deliveries_total", ""), 50 * 31 + 2);
    assert_eq!(server.metric("tidewheel_subscriptions", ""), 32);
    drop((subscribers, by_pattern, other_topic));
    server.until_connections(0);
    assert_eq!(server.metric("tidewheel_topics", ""), 0);
}

#[test]
fn a_subscriber_with_echo_false_does_not_receive_its_own_messages() {
    let server = Server::spawn(&mut serve("--shards 2"));
    let mut without_echo = Client::open_path(&server, "/a?echo=false");
    let mut with_echo = Client::open_path(&server, "/a");
    without_echo.send(&text("one"));
    with_echo.expect(0x81, "one");
    with_echo.send(&text("two"));
    with_echo.expect(0x81, "two");
    without_echo.expect(0x81, "two");
}

#[test]
fn an_invalid_topic_gets_a_4xx_status_and_publishing_to_a_pattern_gets_1008() {
    let server = Server::spawn(&mut serve(""));
    for (path, status) in [
        ("/", 404),
        ("/a//b", 404),
        ("//a", 404),
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
    let mut by_pattern = Client::open_path(&server, "/a/%3E");
    let mut publisher = Client::open_path(&server, "/a/%C3%A4");
    publisher.send(&text("hello"));
    by_pattern.expect(0x81, "hello");
    by_pattern.send(&text("hello"));
    let close = by_pattern.frame();
    assert_eq!((close.first, close.close_code()), (CLOSE, 1008));
}

#[test]
fn a_page_of_another_origin_gets_403() {
    let server = Server::spawn(&mut serve(""));
    let status_of = |origin: &str| {
        let mut client = Client::connect(&server);
        let header = format!("Origin: {origin}\r\nHost: ");
        client.send(REQUEST.replace("Host: ", &header).as_bytes());
        client.head()
    };
    assert!(status_of("https://server.example.com").starts_with("HTTP/1.1 101 "));
    assert!(status_of("https://evil.example").starts_with("HTTP/1.1 403 "));
}

#[test]
fn a_post_with_the_token_publishes_to_the_topic() {
    let server = Server::spawn(&mut serve("--shards 2 --publish-token s3cret"));
    let mut subscribers: Vec<Client> = (0..8)
        .map(|_| Client::open_path(&server, "/news/eu"))
        .collect();
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
    for subscriber in &mut subscribers {
        subscriber.expect(0x81, "hello");
        subscriber.expect(0x82, "binary");
    }
    let metrics = server.admin("/metrics");
    assert!(
        metrics.contains("\ntidewheel_remote_publishes_total 2\n"),
        "{metrics}"
    );
    let without_token = Server::spawn(&mut serve(""));
    let request = "POST /publish/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                   Content-Length: 0\r\n\r\n";
    assert!(
        without_token
            .admin_raw(request)
            .starts_with("HTTP/1.1 403 ")
    );
}

#[test]
fn a_post_to_echo_publishes_to_all_clients() {
    let server = Server::start("--shards 2 --publish-token s3cret");
    let mut clients: Vec<Client> = (0..8).map(|_| Client::open(&server)).collect();
    clients[0].send(&text("mine"));
    clients[0].expect(0x81, "mine");
    let request = "POST /publish/all HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                   Content-Length: 5\r\nAuthorization: Bearer s3cret\r\n\r\nhello";
    assert!(server.admin_raw(request).starts_with("HTTP/1.1 202 "));
    for client in &mut clients {
        client.expect(0x82, "hello");
    }
}

#[test]
fn a_stalled_subscriber_costs_its_queue_and_does_not_delay_others() {
    let server = Server::spawn(&mut serve(
        "--shards 2 --max-send-queue 256KiB --topic-policy feed=drop-oldest --ping-interval off",
    ));
    let mut stalled = Client::connect_with_small_buffer(&server);
    stalled.send(REQUEST.replace("/chat", "/feed").as_bytes());
    stalled.accept();
    let mut readers: Vec<Client> = (0..20)
        .map(|_| Client::open_path(&server, "/feed"))
        .collect();
    let mut publisher = Client::open_path(&server, "/feed?echo=false");
    let payload = "x".repeat(20_000);
    let before = server.memory("VmRSS");
    for _ in 0..500 {
        publisher.send(&text(&payload));
        for reader in &mut readers {
            reader.expect(0x81, &payload);
        }
    }
    let grown = server.memory("VmHWM").saturating_sub(before);
    assert!(
        grown < 12 << 20,
        "grew by {grown} bytes for 10 MB per subscriber"
    );
    assert!(server.metric("tidewheel_drops_total", "policy=\"drop_oldest\"") > 300);
    // It gets the newest message when it reads again.
    publisher.send(&text("the end"));
    wait::until(
        ms(20_000),
        "the stalled subscriber gets the newest message",
        || stalled.frame().payload == b"the end",
    );
}
