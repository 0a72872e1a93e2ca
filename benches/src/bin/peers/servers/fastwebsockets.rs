//! fastwebsockets on hyper.

use bytes::Bytes;
use fastwebsockets::{
    Frame, OpCode, Payload, Role, WebSocket, WebSocketError,
    upgrade::{UpgradeFut, upgrade},
};
use http_body_util::Empty;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    select,
    sync::broadcast::{self, Receiver, Sender},
    task::unconstrained,
};

use super::CHANNEL_CAPACITY;

/// Echoes as in the example of the crate. Fragments are not collected, because no client sends any. The crate writes
/// each frame at once.
pub(super) async fn echo(listener: TcpListener) {
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(async move {
            // The client may have left.
            let _ = socket.set_nodelay(true);
            let connection = http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service_fn(accept))
                .with_upgrades();
            let _ = connection.await;
        });
    }
}

async fn accept(mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, socket) = upgrade(&mut request)?;
    tokio::spawn(unconstrained(send_back(socket)));
    Ok(response)
}

/// Echoes frames. The crate answers Ping and Close.
async fn send_back(socket: UpgradeFut) -> Result<(), WebSocketError> {
    let mut socket = socket.await?;
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Text | OpCode::Binary | OpCode::Continuation => {
                // A server's frame has no masking key.
                let reply = Frame::new(frame.fin, frame.opcode, None, frame.payload);
                socket.write_frame(reply).await?;
            }
            OpCode::Close => return Ok(()),
            OpCode::Ping | OpCode::Pong => {}
        }
    }
}

/// Has a task for each connection, which takes messages from a broadcast channel.
pub(super) async fn fan_out(listener: TcpListener) {
    let (sender, _) = broadcast::channel(CHANNEL_CAPACITY);
    while let Ok((socket, _)) = listener.accept().await {
        let receiver = sender.subscribe();
        tokio::spawn(serve_connection(socket, sender.clone(), receiver));
    }
}

async fn serve_connection(
    mut socket: TcpStream,
    sender: Sender<Bytes>,
    mut receiver: Receiver<Bytes>,
) {
    socket.set_nodelay(true).expect("the socket is TCP");
    let mut request = Vec::new();
    let answer = loop {
        let read = socket.read_buf(&mut request).await;
        read.expect("clients send valid frames and requests");
        if let Some((_, answer)) = super::answer(&request) {
            break answer;
        }
    };
    socket.write_all(&answer).await.expect("the socket is open");
    let mut socket = WebSocket::after_handshake(socket, Role::Server);
    loop {
        select! {
            frame = socket.read_frame() => match frame {
                Ok(frame) if frame.opcode == OpCode::Text => {
                    // This task has a receiver, so that the send succeeds.
                    let _ = sender.send(Bytes::copy_from_slice(&frame.payload));
                }
                Ok(_) => {}
                Err(_) => break,
            },
            message = receiver.recv() => {
                let Ok(message) = message else { break };
                let frame = Frame::text(Payload::Borrowed(&message));
                if socket.write_frame(frame).await.is_err() {
                    break;
                }
            }
        }
    }
}
