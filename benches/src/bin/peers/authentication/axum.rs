//! axum.

use axum::{
    Router,
    extract::ws::{Message, WebSocket, WebSocketUpgrade},
    response::Response,
    routing::get,
};

use super::{DURATION, LOGIN_PATH};
use crate::{echo_during_fanout::ECHO_PATH, servers};

/// Serves on a runtime of one thread.
pub(super) fn serve() {
    let login = async |upgrade: WebSocketUpgrade| {
        tokio::time::sleep(DURATION).await;
        accept(upgrade)
    };
    let router = Router::new().route(LOGIN_PATH, get(login)).route(
        ECHO_PATH,
        get(async |upgrade: WebSocketUpgrade| accept(upgrade)),
    );
    let listen = ([127, 0, 0, 1], 0).into();
    servers::on_tokio(listen, |listener| async {
        axum::serve(listener, router)
            .await
            .expect("accept succeeds");
    });
}

fn accept(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(echo)
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let is_data = matches!(message, Message::Text(_) | Message::Binary(_));
        if is_data && socket.send(message).await.is_err() {
            return;
        }
    }
}
