//! tokio-tungstenite (crates.io) as a client.

use futures_util::{SinkExt, StreamExt};
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{
        Bytes, Message,
        protocol::{
            CloseFrame, WebSocketConfig,
            frame::{
                Frame,
                coding::{CloseCode, Data, OpCode},
            },
        },
    },
};

use crate::support::{ms, process::Server};

const MIB: usize = 1 << 20;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}

async fn connect(server: &Server) -> Socket {
    let config = WebSocketConfig::default()
        .max_frame_size(None)
        .max_message_size(None);
    let (socket, response) = connect_async_with_config(server.url(), Some(config), false)
        .await
        .expect("the server accepts the connection");
    assert_eq!(response.status(), 101);
    socket
}

async fn next(socket: &mut Socket) -> Message {
    socket
        .next()
        .await
        .expect("the connection is open")
        .expect("no error of the client")
}

async fn closed_with(socket: &mut Socket, code: CloseCode) {
    loop {
        match next(socket).await {
            Message::Close(Some(close)) => return assert_eq!(close.code, code),
            Message::Ping(_) => {}
            other => panic!("expected a Close, got {other:?}"),
        }
    }
}

#[test]
fn messages_pings_and_close_are_answered() {
    let server = Server::start("");
    block_on(async {
        let mut socket = connect(&server).await;
        let binary = vec![0xa5; MIB];
        let text = "grüße 🌊".repeat(1000);
        let messages = [
            Message::text(""),
            Message::text(text),
            Message::binary(vec![]),
            Message::binary(binary),
        ];
        for message in messages {
            socket.send(message.clone()).await.unwrap();
            assert_eq!(next(&mut socket).await, message);
        }
        let fragments = [
            ("fra", OpCode::Data(Data::Text), false),
            ("gments", OpCode::Data(Data::Continue), true),
        ];
        for (payload, opcode, fin) in fragments {
            let frame = Frame::message(payload, opcode, fin);
            socket.send(Message::Frame(frame)).await.unwrap();
        }
        assert_eq!(next(&mut socket).await, Message::text("fragments"));
        for payload in ["", "ping"] {
            socket
                .send(Message::Ping(Bytes::from(payload)))
                .await
                .unwrap();
            assert_eq!(next(&mut socket).await, Message::Pong(Bytes::from(payload)));
        }
        let close = CloseFrame {
            code: CloseCode::from(3999),
            reason: "enough".into(),
        };
        socket.close(Some(close.clone())).await.unwrap();
        let Message::Close(Some(answer)) = next(&mut socket).await else {
            panic!("expected a Close")
        };
        assert_eq!(answer.code, close.code);
        assert!(socket.next().await.is_none(), "bytes follow the Close");
    });
}

#[test]
fn a_client_that_answers_pings_stays_connected() {
    let server = Server::start("--ping-interval 200ms --ping-timeout 400ms");
    block_on(async {
        let mut socket = connect(&server).await;
        for _ in 0..5 {
            assert!(
                matches!(next(&mut socket).await, Message::Ping(_)),
                "expected a Ping"
            );
        }
        socket.send(Message::text("hello")).await.unwrap();
        loop {
            match next(&mut socket).await {
                Message::Ping(_) => {}
                message => break assert_eq!(message, Message::text("hello")),
            }
        }
    });
}

#[test]
fn a_drain_closes_the_client_with_1001() {
    let server = Server::start("");
    block_on(async {
        let mut socket = connect(&server).await;
        server.signal(Signal::TERM);
        closed_with(&mut socket, CloseCode::Away).await;
        assert!(socket.next().await.is_none(), "bytes follow the Close");
    });
    let (status, log) = server.wait(ms(10_800));
    assert!(status.success(), "the drain failed: {log}");
}

#[test]
fn invalid_messages_get_1009_and_1007() {
    let server = Server::start("");
    block_on(async {
        let mut socket = connect(&server).await;
        socket
            .send(Message::binary(vec![0; MIB + 1]))
            .await
            .unwrap();
        closed_with(&mut socket, CloseCode::Size).await;

        let mut socket = connect(&server).await;
        let frame = Frame::message(vec![0xed, 0xa0, 0x80], OpCode::Data(Data::Text), true);
        socket.send(Message::Frame(frame)).await.unwrap();
        closed_with(&mut socket, CloseCode::Invalid).await;
    });
}
