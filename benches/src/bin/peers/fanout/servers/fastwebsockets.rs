use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    select,
    sync::broadcast::{self, Receiver, Sender},
};

use super::CHANNEL_CAPACITY;

pub(super) fn serve(listener: std::net::TcpListener) {
    super::run_on_tokio(listener, async |listener| {
        let (sender, _) = broadcast::channel(CHANNEL_CAPACITY);
        while let Ok((socket, _)) = listener.accept().await {
            let receiver = sender.subscribe();
            tokio::spawn(converse(socket, sender.clone(), receiver));
        }
    });
}

async fn converse(mut socket: TcpStream, sender: Sender<Bytes>, mut receiver: Receiver<Bytes>) {
    socket.set_nodelay(true).expect("it is a TCP socket");
    let mut request = Vec::new();
    let answer = loop {
        let read = socket.read_buf(&mut request).await;
        read.expect("clients are well-behaved");
        if let Some(answer) = super::answer(&request) {
            break answer;
        }
    };
    socket.write_all(&answer).await.expect("it is open");
    let mut socket = WebSocket::after_handshake(socket, Role::Server);
    loop {
        select! {
            frame = socket.read_frame() => match frame {
                Ok(frame) if frame.opcode == OpCode::Text => {
                    // There is a receiver at least: our own.
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
