//! A chat with accounts, rooms, direct messages and a history in SQLite.
//!
//! `cargo run --release -p tidewheel --features tasks --example chat -- [ADDRESS [FILE]]` starts it, with the users Ada
//! and Bob. A client connects to `ws://127.0.0.1:8080/rooms/rust?token=ada`. It gets the latest messages of the room and
//! to the user, and then new ones. `@Bob hello` is a message to Bob, in whichever room he is. Over HTTP, `POST
//! /rooms/rust?token=ada` sends its body to the room, and `GET /rooms/rust` returns the number of members.

mod database;

use std::time::Duration;

use database::Database;
use tidewheel::{
    BoxError, Conn, Handler, Message, Publisher, Request, Response, Server, Topic, Verdict,
};

/// The handler of a shard. Its values are handles of what all shards share.
#[derive(Clone)]
struct Chat {
    database: Database,
    publisher: Publisher,
}

/// The state of a connection.
struct Member {
    name: String,
    room: Topic,
}

impl Handler for Chat {
    type State = Member;

    // The token is looked up in the database. Meanwhile the shard serves its other connections.
    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<Member> {
        let Some(room) = self.room(request) else {
            return Verdict::reject(Response::text(404, "rooms are at /rooms/NAME"));
        };
        let user = self.clone().find_user(token(request));
        Verdict::later(async move {
            match user.await {
                Ok(name) => Verdict::accept(Member { name, room }),
                Err(response) => Verdict::reject(response),
            }
        })
    }

    fn open(&mut self, conn: &mut Conn<'_, Self>) {
        let (Member { name, room }, link) = conn.split();
        let topics = [room.to_string(), format!("users/{name}")];
        for topic in &topics {
            _ = link.subscribe(topic);
        }
        // A message that is stored meanwhile may come twice, rather than not at all.
        let latest = self.database.clone().latest(topics);
        link.spawn_in_order(latest, |_, conn, lines| {
            for line in lines.unwrap_or_default() {
                conn.send(line);
            }
        });
        link.after(Duration::from_secs(3600), |_, conn| {
            conn.send("You have been here for an hour. Have a break!");
        });
    }

    // Messages are delivered in the order of arrival, also if their sender disconnects.
    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        let (Member { name, room }, link) = conn.split();
        let text = message.as_text().unwrap_or_default();
        let (topic, line) = match text.strip_prefix('@').and_then(|it| it.split_once(' ')) {
            Some((to, text)) => (format!("users/{to}"), format!("{name}, to you: {text}")),
            None => (room.to_string(), format!("{name}: {text}")),
        };
        link.spawn_in_order(self.clone().deliver(topic, line), |_, conn, delivered| {
            if let Err(error) = delivered {
                conn.send(format!("The message was not delivered: {error}"));
            }
        });
    }

    fn http(&mut self, request: &Request<'_>) -> Response {
        let (Some(room), chat) = (self.room(request), self.clone()) else {
            return Response::text(404, "rooms are at /rooms/NAME");
        };
        if request.method() != "POST" {
            let members = self.publisher.subscribers(room.name()).unwrap_or_default();
            return Response::json(200, format!(r#"{{"members":{members}}}"#));
        }
        let user = chat.clone().find_user(token(request));
        let text = String::from_utf8_lossy(request.body()).into_owned();
        Response::later(async move {
            let line = match user.await {
                Ok(name) => format!("{name}: {text}"),
                Err(response) => return response,
            };
            match chat.deliver(room.to_string(), line).await {
                Ok(()) => Response::new(204),
                Err(error) => Response::text(503, error.to_string()),
            }
        })
    }
}

fn token(request: &Request<'_>) -> String {
    request.parameter("token").unwrap_or_default().into_owned()
}

impl Chat {
    /// The room that a request names by its path.
    fn room(&self, request: &Request<'_>) -> Option<Topic> {
        let topic = self.publisher.topic(request.path().strip_prefix('/')?);
        topic.ok().filter(|it| it.name().starts_with("rooms/"))
    }

    /// Returns the name of the user with a token, or the response to a wrong one.
    async fn find_user(self, token: String) -> Result<String, Response> {
        match self.database.find_user(token).await {
            Ok(Some(name)) => Ok(name),
            Ok(None) => Err(Response::json(401, r#"{"error":"token"}"#)),
            Err(error) => Err(Response::text(503, error.to_string())),
        }
    }

    /// Stores a message, and publishes it.
    async fn deliver(self, topic: String, line: String) -> Result<(), BoxError> {
        self.database.store(topic.clone(), line.clone()).await?;
        Ok(self.publisher.publish(topic, line)?)
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:8080".to_owned());
    let database = Database::open(arguments.next().unwrap_or(":memory:".to_owned())).await?;
    let server = Server::builder()
        .listen(address)
        .configure(|it| it.presence = true)
        .bind()?;
    println!("listening on {}", server.address());
    let running = server.start(move |shard| {
        let publisher = shard.publisher();
        Ok(Chat {
            database,
            publisher,
        })
    })?;
    Ok(running.until_signal().await?)
}

#[cfg(test)]
mod tests {
    use tidewheel::testing::{TestClient, TestServer};

    use super::*;

    fn chat() -> TestServer<Chat> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let database = runtime
            .block_on(Database::open(":memory:".to_owned()))
            .expect("a database");
        TestServer::configured(
            |config| config.presence = true,
            |shard| {
                let publisher = shard.publisher();
                Ok(Chat {
                    database,
                    publisher,
                })
            },
        )
    }

    fn connect(chat: &TestServer<Chat>, token: &str) -> TestClient {
        let client = chat.connect(&format!("/rooms/rust?token={token}"));
        client.expect_nothing(Duration::from_millis(10));
        client
    }

    #[test]
    fn members_of_a_room_get_its_messages() {
        let chat = chat();
        let (ada, bob) = (connect(&chat, "ada"), connect(&chat, "bob"));
        ada.say("hello");
        bob.expect("Ada: hello");
        ada.expect("Ada: hello");
    }

    #[test]
    fn a_new_member_gets_the_history() {
        let chat = chat();
        let request = chat.request("/rooms/rust?token=bob");
        assert_eq!(request.send("POST", "hi").status, 204);
        chat.connect("/rooms/rust?token=ada").expect("Bob: hi");
    }

    #[test]
    fn a_wrong_token_is_refused() {
        let answer = chat().request("/rooms/rust?token=eve").connect();
        let refused = answer.expect_err("Eve has no account");
        assert_eq!(refused.status, 401);
        assert_eq!(refused.body, r#"{"error":"token"}"#);
    }

    #[test]
    fn a_direct_message_reaches_its_user_only() {
        let chat = chat();
        let (ada, bob) = (connect(&chat, "ada"), connect(&chat, "bob"));
        ada.say("@Bob hello");
        bob.expect("Ada, to you: hello");
        ada.expect_nothing(Duration::from_secs(1));
    }

    #[test]
    fn a_room_counts_its_members() {
        let chat = chat();
        let _clients = [connect(&chat, "ada"), connect(&chat, "bob")];
        assert_eq!(chat.get("/rooms/rust").body, r#"{"members":2}"#);
    }

    #[test]
    fn a_member_is_told_to_have_a_break() {
        let chat = chat();
        let ada = connect(&chat, "ada");
        chat.advance(Duration::from_secs(3600));
        ada.expect("You have been here for an hour. Have a break!");
    }
}
