//! tokio-tungstenite.

use std::pin::pin;

use futures_util::{
    SinkExt, StreamExt, TryStreamExt, future,
    stream::{self},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::broadcast::{self, Receiver, Sender},
};
use tokio_tungstenite::{
    accept_async, accept_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use super::CHANNEL_CAPACITY;
use super::Settings;

/// Read buffer in bytes of each of many connections, as the documentation of `WebSocketConfig` advises. The default is
/// 128 KiB.
const SMALL_READ_BUFFER_BYTES: usize = 4 * 1024;

/// Echoes as in the example of the crate, by `forward`, which flushes when no message waits.
pub(super) async fn echo(listener: TcpListener, settings: Settings) {
    let config = match settings.many {
        true => WebSocketConfig::default().read_buffer_size(SMALL_READ_BUFFER_BYTES),
        false => WebSocketConfig::default(),
    };
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(send_back(socket, config));
    }
}

async fn send_back(socket: TcpStream, config: WebSocketConfig) {
    // The client may have left.
    let _ = socket.set_nodelay(true);
    let Ok(socket) = accept_async_with_config(socket, Some(config)).await else {
        return;
    };
    let (outgoing, incoming) = socket.split();
    let messages =
        incoming.try_filter(|message| future::ready(message.is_text() || message.is_binary()));
    let _ = messages.forward(outgoing).await;
}

/// The way from the broadcast channel to the socket.
#[derive(Clone, Copy)]
pub(super) enum Sending {
    /// Awaits `send` for each message.
    Each,
    /// `StreamExt::forward`, as in the example of the crate.
    Forward,
}

/// Has a task for each connection, which takes messages from a broadcast channel.
pub(super) async fn fan_out(listener: TcpListener, sending: Sending) {
    let (sender, _) = broadcast::channel(CHANNEL_CAPACITY);
    while let Ok((socket, _)) = listener.accept().await {
        let receiver = sender.subscribe();
        tokio::spawn(serve_connection(socket, sender.clone(), receiver, sending));
    }
}

async fn serve_connection(
    socket: TcpStream,
    sender: Sender<Message>,
    mut receiver: Receiver<Message>,
    sending: Sending,
) {
    socket.set_nodelay(true).expect("the socket is TCP");
    let socket = accept_async(socket)
        .await
        .expect("clients send valid frames and requests");
    let (mut outgoing, incoming) = socket.split();
    let publish = incoming.try_for_each(|message| {
        // This task has a receiver, so that the send succeeds.
        let _ = sender.send(message);
        future::ok(())
    });
    match sending {
        Sending::Each => {
            let deliver = async {
                while let Ok(message) = receiver.recv().await {
                    if outgoing.send(message).await.is_err() {
                        break;
                    }
                }
            };
            future::select(pin!(publish), pin!(deliver)).await;
        }
        Sending::Forward => {
            let messages = stream::unfold(receiver, |mut receiver| async {
                let message = receiver.recv().await.ok()?;
                Some((Ok(message), receiver))
            });
            let deliver = messages.forward(outgoing);
            future::select(pin!(publish), pin!(deliver)).await;
        }
    }
}
