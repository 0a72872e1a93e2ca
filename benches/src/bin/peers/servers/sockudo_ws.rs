//! sockudo-ws.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use sockudo_ws::{Config, Message, Role, WebSocketStream, handshake::server_handshake};
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    sync::broadcast::{self, Receiver, Sender},
};

use super::CHANNEL_CAPACITY;
use super::Settings;

/// Echoes as in the README of the crate, with `feed` in place of `send`, as its documentation advises for batches: the
/// crate flushes before it reads from the socket again.
pub(super) async fn echo(listener: TcpListener, settings: Settings) {
    let mut config = Config::default();
    if let Some(seconds) = settings.ping_interval {
        config.ping_interval = seconds;
    }
    if let Some(seconds) = settings.timeout {
        (config.pong_timeout, config.close_timeout) = (seconds, seconds);
    }
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(send_back(config.clone(), socket));
    }
}

async fn accept(
    config: Config,
    mut socket: TcpStream,
) -> sockudo_ws::Result<WebSocketStream<TcpStream>> {
    socket.set_nodelay(true)?;
    let leftover = server_handshake(&mut socket).await?.leftover;
    Ok(WebSocketStream::from_raw_with_leftover(
        socket,
        Role::Server,
        config,
        leftover,
    ))
}

async fn send_back(config: Config, socket: TcpStream) {
    let Ok(mut socket) = accept(config, socket).await else {
        return;
    };
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(_) | Message::Binary(_) => {
                if socket.feed(message).await.is_err() {
                    break;
                }
            }
            Message::Close(_) => break,
            // The crate answers Ping.
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}

/// Has a task for each connection, which flushes when its broadcast channel is empty.
pub(super) async fn fan_out(listener: TcpListener) {
    // The other servers do not ping, and the clients do not answer.
    let config = Config::builder().auto_ping(false).idle_timeout(0).build();
    let (sender, _) = broadcast::channel(CHANNEL_CAPACITY);
    while let Ok((socket, _)) = listener.accept().await {
        let receiver = sender.subscribe();
        tokio::spawn(serve_connection(
            config.clone(),
            socket,
            sender.clone(),
            receiver,
        ));
    }
}

async fn serve_connection(
    config: Config,
    socket: TcpStream,
    sender: Sender<Bytes>,
    mut receiver: Receiver<Bytes>,
) {
    let accepted = accept(config, socket).await;
    let mut socket = accepted.expect("clients send valid frames and requests");
    loop {
        select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    // This task has a receiver, so that the send succeeds.
                    let _ = sender.send(text);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            },
            message = receiver.recv() => {
                let mut next = message.ok();
                while let Some(message) = next {
                    if socket.feed(Message::Text(message)).await.is_err() {
                        return;
                    }
                    next = receiver.try_recv().ok();
                }
                if socket.flush().await.is_err() {
                    break;
                }
            }
        }
    }
}
