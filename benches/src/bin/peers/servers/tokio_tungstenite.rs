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

/// The read buffer of each connection where there are very many, as the documentation of
/// `WebSocketConfig` has it; otherwise it is of 128 KiB, as the write buffer always is.
const READ_BUFFER_OF_MANY: usize = 4 * 1024;

/// As in the example of the crate: `forward` flushes when there is no next message.
pub(super) async fn echo(listener: TcpListener, settings: Settings) {
    let config = match settings.many {
        true => WebSocketConfig::default().read_buffer_size(READ_BUFFER_OF_MANY),
        false => WebSocketConfig::default(),
    };
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(send_back(socket, config));
    }
}

async fn send_back(socket: TcpStream, config: WebSocketConfig) {
    // A client may be gone already.
    let _ = socket.set_nodelay(true);
    let Ok(socket) = accept_async_with_config(socket, Some(config)).await else {
        return;
    };
    let (outgoing, incoming) = socket.split();
    let messages =
        incoming.try_filter(|message| future::ready(message.is_text() || message.is_binary()));
    let _ = messages.forward(outgoing).await;
}

/// How messages get from the channel to the socket.
#[derive(Clone, Copy)]
pub(super) enum Sending {
    /// `send(message).await` for each.
    Each,
    /// `forward`, as in the example of the crate.
    Forward,
}

pub(super) async fn fan_out(listener: TcpListener, sending: Sending) {
    let (sender, _) = broadcast::channel(CHANNEL_CAPACITY);
    while let Ok((socket, _)) = listener.accept().await {
        let receiver = sender.subscribe();
        tokio::spawn(converse(socket, sender.clone(), receiver, sending));
    }
}

async fn converse(
    socket: TcpStream,
    sender: Sender<Message>,
    mut receiver: Receiver<Message>,
    sending: Sending,
) {
    socket.set_nodelay(true).expect("it is a TCP socket");
    let socket = accept_async(socket)
        .await
        .expect("clients are well-behaved");
    let (mut outgoing, incoming) = socket.split();
    let publish = incoming.try_for_each(|message| {
        // There is a receiver at least: our own.
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
