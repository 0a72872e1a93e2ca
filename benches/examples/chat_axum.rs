//! The chat of `server/examples/chat` on axum, to compare the two: the same requests, messages and database.
//!
//! `cargo run --release -p benches --example chat_axum -- [ADDRESS [FILE]]` starts it.
//!
//! It has no keepalive: a client whose network is cut stays until the kernel gives it up. A client that reads slowly
//! loses messages, because `broadcast` drops them. The tests use the network, and wait for each message.

#[path = "../../server/examples/chat/database.rs"]
mod database;

use std::{
    collections::HashMap,
    error::Error,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::{
        Path, Query, State,
        ws::{
            CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code,
            rejection::WebSocketUpgradeRejection,
        },
    },
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use database::Database;
use serde::Deserialize;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{broadcast, watch},
};

type BoxError = Box<dyn Error + Send + Sync>;

/// The subscribers of each topic.
type Topics = HashMap<String, broadcast::Sender<Utf8Bytes>>;

/// The database, the subscribers and the end of the server, which all connections share.
#[derive(Clone)]
struct Chat {
    database: Database,
    topics: Arc<Mutex<Topics>>,
    stopping: watch::Receiver<bool>,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
}

/// Answers a WebSocket handshake, or a request for the number of members.
async fn connect(
    State(chat): State<Chat>,
    Path(room): Path<String>,
    Query(Token { token }): Query<Token>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Response> {
    let room = format!("rooms/{room}");
    let Ok(upgrade) = upgrade else {
        let members = chat.count_subscribers(&room);
        return Ok(format!(r#"{{"members":{members}}}"#).into_response());
    };
    let name = chat.find_user(token).await?;
    Ok(upgrade.on_upgrade(async move |socket| {
        let topics = [room, format!("users/{name}")];
        // An error means that the client has gone.
        _ = chat.serve(socket, &name, &topics).await;
        chat.remove_unused(&topics);
    }))
}

async fn post(
    State(chat): State<Chat>,
    Path(room): Path<String>,
    Query(Token { token }): Query<Token>,
    text: String,
) -> Result<StatusCode, Response> {
    let name = chat.find_user(token).await?;
    let delivered = chat.deliver(format!("rooms/{room}"), format!("{name}: {text}"));
    match delivered.await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) => Err((StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response()),
    }
}

impl Chat {
    /// Returns the name of the user with a token, or the response to a wrong one.
    async fn find_user(&self, token: String) -> Result<String, Response> {
        match self.database.clone().find_user(token).await {
            Ok(Some(name)) => Ok(name),
            Ok(None) => Err((StatusCode::UNAUTHORIZED, r#"{"error":"token"}"#).into_response()),
            Err(error) => Err((StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response()),
        }
    }

    /// Serves a connection until it ends.
    async fn serve(
        &self,
        mut socket: WebSocket,
        name: &str,
        topics: &[String; 2],
    ) -> Result<(), BoxError> {
        let [mut room, mut own] = [self.subscribe(&topics[0]), self.subscribe(&topics[1])];
        for line in self.database.clone().latest(topics.clone()).await? {
            socket.send(line.into()).await?;
        }
        let mut hour = pin!(tokio::time::sleep(Duration::from_secs(3600)));
        let mut has_rested = false;
        let mut stopping = self.stopping.clone();
        loop {
            tokio::select! {
                Ok(line) = room.recv() => socket.send(Message::Text(line)).await?,
                Ok(line) = own.recv() => socket.send(Message::Text(line)).await?,
                () = &mut hour, if !has_rested => {
                    has_rested = true;
                    let text = "You have been here for an hour. Have a break!";
                    socket.send(text.into()).await?;
                }
                Ok(_) = stopping.changed() => {
                    let frame = CloseFrame { code: close_code::AWAY, reason: "".into() };
                    return Ok(socket.send(Message::Close(Some(frame))).await?);
                }
                message = socket.recv() => match message {
                    Some(Ok(Message::Text(text))) => {
                        if let Err(error) = self.receive(name, &topics[0], &text).await {
                            let text = format!("The message was not delivered: {error}");
                            socket.send(text.into()).await?;
                        }
                    }
                    Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
                },
            }
        }
    }

    /// Handles a message of a member.
    async fn receive(&self, name: &str, room: &str, text: &str) -> Result<(), BoxError> {
        let (topic, line) = match text.strip_prefix('@').and_then(|it| it.split_once(' ')) {
            Some((to, text)) => (format!("users/{to}"), format!("{name}, to you: {text}")),
            None => (room.to_owned(), format!("{name}: {text}")),
        };
        self.deliver(topic, line).await
    }

    /// Stores a message, and publishes it.
    async fn deliver(&self, topic: String, line: String) -> Result<(), BoxError> {
        let stored = self.database.clone().store(topic.clone(), line.clone());
        stored.await?;
        if let Some(subscribers) = self.topics().get(&topic) {
            // Without a subscriber there is nobody to send to.
            _ = subscribers.send(line.into());
        }
        Ok(())
    }

    fn subscribe(&self, topic: &str) -> broadcast::Receiver<Utf8Bytes> {
        let mut topics = self.topics();
        let subscribers = topics.entry(topic.to_owned());
        subscribers
            .or_insert_with(|| broadcast::Sender::new(64))
            .subscribe()
    }

    fn count_subscribers(&self, topic: &str) -> usize {
        self.topics().get(topic).map_or(0, |it| it.receiver_count())
    }

    fn remove_unused(&self, topics: &[String; 2]) {
        self.topics().retain(|topic, subscribers| {
            !topics.contains(topic) || subscribers.receiver_count() > 0
        });
    }

    fn topics(&self) -> std::sync::MutexGuard<'_, Topics> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the application, and what tells its connections that it stops.
async fn application(file: String) -> Result<(Router, watch::Sender<bool>), BoxError> {
    let (stop, stopping) = watch::channel(false);
    let chat = Chat {
        database: Database::open(file).await?,
        topics: Arc::default(),
        stopping,
    };
    Ok((
        Router::new()
            .route("/rooms/{room}", get(connect).post(post))
            .with_state(chat),
        stop,
    ))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:8080".to_owned());
    let (router, stop) = application(arguments.next().unwrap_or(":memory:".to_owned())).await?;
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let mut terminate = signal(SignalKind::terminate())?;
    let signalled = async move {
        terminate.recv().await;
    };
    axum::serve(listener, router)
        .with_graceful_shutdown(signalled)
        .await?;
    stop.send_replace(true);
    // Waits until the last connection has dropped its receiver.
    stop.closed().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use futures_util::{SinkExt as _, StreamExt as _};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };
    use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite};

    use super::*;

    type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

    /// Starts a server, whose connections are told when the sender changes.
    async fn start() -> (SocketAddr, watch::Sender<bool>) {
        let (router, stop) = application(":memory:".to_owned())
            .await
            .expect("a database");
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback is up");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async {
            axum::serve(listener, router)
                .await
                .expect("accept succeeds");
        });
        (address, stop)
    }

    async fn connect(server: SocketAddr, token: &str) -> Client {
        let url = format!("ws://{server}/rooms/rust?token={token}");
        connect_async(url).await.expect("the token is known").0
    }

    async fn say(client: &mut Client, text: &str) {
        client.send(text.into()).await.expect("the server lives");
    }

    async fn expect(client: &mut Client, text: &str) {
        let message = client
            .next()
            .await
            .expect("a message")
            .expect("a whole one");
        assert_eq!(message.into_text().expect("a text"), text);
    }

    async fn request(server: SocketAddr, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(server).await.expect("the server lives");
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close");
        let request = format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("the server reads");
        let mut response = String::new();
        stream
            .read_to_string(&mut response)
            .await
            .expect("a response");
        response
    }

    #[tokio::test]
    async fn members_of_a_room_get_its_messages() {
        let (server, _stop) = start().await;
        let (mut ada, mut bob) = (connect(server, "ada").await, connect(server, "bob").await);
        say(&mut bob, "are you there?").await;
        expect(&mut bob, "Bob: are you there?").await;
        expect(&mut ada, "Bob: are you there?").await;
    }

    #[tokio::test]
    async fn a_new_member_gets_the_history() {
        let (server, _stop) = start().await;
        let response = request(server, "POST", "/rooms/rust?token=bob", "hi").await;
        assert!(response.starts_with("HTTP/1.1 204"), "{response}");
        expect(&mut connect(server, "ada").await, "Bob: hi").await;
    }

    #[tokio::test]
    async fn a_wrong_token_is_refused() {
        let (server, _stop) = start().await;
        let refused = connect_async(format!("ws://{server}/rooms/rust?token=eve")).await;
        let Err(tungstenite::Error::Http(response)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(response.status(), 401);
        assert_eq!(
            response.body().as_deref(),
            Some(&br#"{"error":"token"}"#[..])
        );
    }

    #[tokio::test]
    async fn a_direct_message_reaches_its_user_only() {
        let (server, _stop) = start().await;
        let (mut ada, mut bob) = (connect(server, "ada").await, connect(server, "bob").await);
        say(&mut ada, "@Bob hello").await;
        expect(&mut bob, "Ada, to you: hello").await;
        say(&mut ada, "hello all").await;
        expect(&mut ada, "Ada: hello all").await;
    }

    #[tokio::test]
    async fn a_room_counts_its_members() {
        let (server, _stop) = start().await;
        let mut ada = connect(server, "ada").await;
        say(&mut ada, "hello").await;
        expect(&mut ada, "Ada: hello").await;
        let response = request(server, "GET", "/rooms/rust", "").await;
        assert!(response.ends_with(r#"{"members":1}"#), "{response}");
    }

    #[tokio::test]
    async fn a_server_that_stops_closes_its_connections() {
        let (server, stop) = start().await;
        let mut ada = connect(server, "ada").await;
        say(&mut ada, "hello").await;
        expect(&mut ada, "Ada: hello").await;
        stop.send_replace(true);
        let last = ada.next().await.expect("a message").expect("a whole one");
        assert!(
            matches!(last, tungstenite::Message::Close(Some(frame)) if u16::from(frame.code) == 1001)
        );
    }
}
