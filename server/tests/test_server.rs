//! The test server: a handler without a network, in virtual time.

use std::{rc::Rc, time::Duration};

use tidewheel::{
    Cause, CloseCode, Conn, Cookie, Disconnect, Handler, Message, Remote, Request, Response,
    ShardContext, Verdict, testing::TestServer,
};

/// A chat: the path is the topic, and the token the name.
struct Chat {
    remote: Remote<Self>,
    /// The causes of the ends of connections.
    ends: Vec<Cause>,
}

impl Handler for Chat {
    type State = (String, String);

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<(String, String)> {
        let (path, token) = (
            request.path()[1..].to_owned(),
            request.bearer().map(str::to_owned),
        );
        Verdict::later(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            match token {
                Some(token) if token != "wrong" => {
                    Verdict::accept((path, token)).cookie(&Cookie::new("seen", "1"))
                }
                _ => Verdict::reject(Response::json(401, r#"{"error":"token"}"#)),
            }
        })
    }

    fn http(&mut self, request: &Request<'_>) -> Response {
        match (request.method(), request.path()) {
            ("GET", "/health") => Response::text(200, "ok"),
            ("POST", "/echo") => Response::text(200, String::from_utf8_lossy(request.body())),
            _ => Response::new(404),
        }
    }

    fn open(&mut self, conn: &mut Conn<'_, Self>) {
        let ((topic, _), link) = conn.split();
        link.subscribe(topic).expect("the path is a topic");
        link.after(Duration::from_secs(3600), |_, conn| {
            conn.send("an hour has passed");
        });
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        let ((topic, name), link) = conn.split();
        match message.as_text() {
            Some("remote") => {
                let with = self.remote.with(link.id(), |_, conn| {
                    conn.send("by a remote");
                });
                with.expect("the shard is not busy");
            }
            Some("real") => {
                let (sender, receiver) = tokio::sync::oneshot::channel();
                std::thread::spawn(move || sender.send("from another thread"));
                link.spawn(receiver, |_, conn, text| {
                    conn.send(text.expect("the thread sends"));
                });
            }
            Some(text) => {
                let message = format!("{name}: {text}");
                link.publish(topic, message).expect("the path is a topic");
            }
            None => {
                link.send(message);
            }
        }
    }

    fn close(&mut self, _: &mut Conn<'_, Self>, end: &Disconnect) {
        self.ends.push(end.cause);
    }
}

fn chat() -> TestServer<Chat> {
    let make = |shard: &ShardContext| {
        let remote = shard.remote();
        let ends = Vec::new();
        Ok(Chat { remote, ends })
    };
    TestServer::new(make)
}

/// Connects a client with a token.
fn connect(server: &TestServer<Chat>, path: &str, name: &str) -> tidewheel::testing::TestClient {
    let request = server
        .request(path)
        .header("Authorization", &format!("Bearer {name}"));
    request.connect().expect("the token is right")
}

#[test]
fn clients_of_a_topic_talk_to_each_other() {
    let server = chat();
    let (ada, bob) = (
        connect(&server, "/rust", "Ada"),
        connect(&server, "/rust", "Bob"),
    );
    ada.say("hello");
    bob.expect("Ada: hello");
    ada.expect("Ada: hello");
    bob.say(vec![1, 2, 3]);
    bob.expect(vec![1, 2, 3]);
    ada.expect_nothing(Duration::from_secs(1));
    server
        .publisher()
        .publish("rust", "news")
        .expect("the shard is not busy");
    ada.expect("news");
}

#[test]
fn a_verdict_of_a_task_refuses_a_wrong_token() {
    let server = chat();
    let refused = server
        .request("/rust")
        .header("Authorization", "Bearer wrong")
        .connect();
    let response = refused.expect_err("the token is wrong");
    assert_eq!(
        (response.status, response.body.as_str()),
        (401, r#"{"error":"token"}"#)
    );
    assert_eq!(response.header("content-type"), Some("application/json"));
    let ada = connect(&server, "/rust", "Ada");
    assert_eq!(ada.header("Set-Cookie").as_deref(), Some("seen=1"));
}

#[test]
fn requests_without_an_upgrade_get_their_responses() {
    let server = chat();
    assert_eq!(server.get("/health").body, "ok");
    assert_eq!(server.get("/other").status, 404);
    assert_eq!(server.request("/echo").send("POST", "hello").body, "hello");
}

#[test]
fn an_hour_passes() {
    let server = chat();
    let ada = connect(&server, "/rust", "Ada");
    server.advance(Duration::from_secs(3601));
    ada.expect("an hour has passed");
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_client_that_is_cut_off_is_found_dead() {
    let server = chat();
    let ada = connect(&server, "/rust", "Ada");
    ada.cut();
    server.advance(Duration::from_secs(60));
    assert_eq!(server.connections(), 0);
    assert_eq!(
        server.with_handler(|app| app.ends.clone()),
        [Cause::PingTimeout]
    );
}

#[test]
fn connections_end_as_the_test_wants() {
    let server = chat();
    let (ada, bob) = (
        connect(&server, "/rust", "Ada"),
        connect(&server, "/rust", "Bob"),
    );
    ada.close(CloseCode::NORMAL_CLOSURE, "bye");
    assert_eq!(ada.end().cause, Cause::LocalClose);
    bob.reset();
    let cleo = connect(&server, "/rust", "Cleo");
    server.drain();
    assert_eq!(
        cleo.expect_close(CloseCode::GOING_AWAY),
        "server shutting down"
    );
    assert_eq!(server.connections(), 0);
}

#[test]
fn a_close_callback_publishes_to_others_and_its_connection_no_longer_counts() {
    struct Room;
    impl Handler for Room {
        type State = ();
        fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
            Verdict::accept(())
        }
        fn open(&mut self, conn: &mut Conn<'_, Self>) {
            conn.subscribe("room").expect("the name is a topic");
        }
        fn message(&mut self, _: &mut Conn<'_, Self>, _: Message<'_>) {}
        fn close(&mut self, conn: &mut Conn<'_, Self>, _: &Disconnect) {
            let members = conn.subscribers("room").expect("presence is on");
            let published = conn.publish("room", format!("members: {members}"));
            published.expect("the server is not busy");
        }
    }
    let server = TestServer::configured(|config| config.presence = true, |_| Ok(Room));
    let [ada, bob] = [server.connect("/"), server.connect("/")];
    bob.close(CloseCode::NORMAL_CLOSURE, "");
    ada.expect("members: 1");
}

#[test]
fn a_task_waits_for_another_thread_and_a_remote_reaches_its_connection() {
    let server = chat();
    let ada = connect(&server, "/rust", "Ada");
    ada.say("real");
    ada.expect("from another thread");
    ada.say("remote");
    ada.expect("by a remote");
}

#[test]
fn work_of_a_client_that_has_gone_is_dropped_at_the_close_timeout() {
    struct Endless(Rc<()>);
    impl Handler for Endless {
        type State = ();
        fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
            Verdict::accept(())
        }
        fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
            let held = Rc::clone(&self.0);
            let task = async move {
                let _held = held;
                std::future::pending::<()>().await;
            };
            conn.spawn(task, |_, _, ()| ());
            conn.send(message);
        }
    }
    let held = Rc::new(());
    let server = TestServer::new(|_| Ok(Endless(Rc::clone(&held))));
    let client = server.connect("/");
    client.say("start");
    client.expect("start");
    client.reset();
    server.advance(Duration::from_secs(9));
    assert_eq!(Rc::strong_count(&held), 3);
    server.advance(Duration::from_secs(2));
    assert_eq!(Rc::strong_count(&held), 2);
}

#[test]
#[should_panic(expected = "expected Text(\"Ada: bye\"), received Text(\"Ada: hello\")")]
fn another_message_than_the_expected_one_fails_the_test() {
    let server = chat();
    let ada = connect(&server, "/rust", "Ada");
    ada.say("hello");
    ada.expect("Ada: bye");
}

#[test]
#[should_panic(expected = "expected a message, but none arrived")]
fn a_missing_message_fails_the_test() {
    let server = chat();
    connect(&server, "/rust", "Ada").expect("hello");
}
