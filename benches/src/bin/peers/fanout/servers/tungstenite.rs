use std::pin::pin;

use futures_util::{
    SinkExt, StreamExt, TryStreamExt, future,
    stream::{self},
};
use tokio::{
    net::TcpStream,
    sync::broadcast::{self, Receiver, Sender},
};
use tokio_tungstenite::{accept_async, tungstenite::Message};

use super::CHANNEL_CAPACITY;

/// How messages get from the channel to the socket.
#[derive(Clone, Copy)]
pub(super) enum Sending {
    /// `send(message).await` for each.
    Each,
    /// `forward`, as in the example of the crate.
    Forward,
}

pub(super) fn serve(listener: std::net::TcpListener, sending: Sending) {
    super::run_on_tokio(listener, async |listener| {
        let (sender, _) = broadcast::channel(CHANNEL_CAPACITY);
        while let Ok((socket, _)) = listener.accept().await {
            let receiver = sender.subscribe();
            tokio::spawn(converse(socket, sender.clone(), receiver, sending));
        }
    });
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
