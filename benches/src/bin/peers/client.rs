//! A client's socket, as far as the opening handshake.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};

/// The key of RFC 6455 1.3, and the answer to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Connects, and completes the handshake on `path`; with room for so many bytes that nobody reads,
/// if that is given.
pub(crate) fn open(address: SocketAddr, path: &str, receive_buffer: Option<usize>) -> TcpStream {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket(family, SocketType::STREAM, None).expect("a descriptor is left");
    if let Some(size) = receive_buffer {
        // Before it connects: the window is scaled by it.
        sockopt::set_socket_recv_buffer_size(&socket, size).expect("it is a socket");
    }
    connect(&socket, &address).expect("the server accepts");
    let mut socket = TcpStream::from(socket);
    socket.set_nodelay(true).expect("it is a TCP socket");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).expect("it is open");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut buffer = [0; 1024];
        let length = socket.read(&mut buffer).expect("it is open");
        assert!(length > 0, "the server refuses: {}", head.escape_ascii());
        head.extend_from_slice(&buffer[..length]);
    }
    let text = String::from_utf8_lossy(&head);
    assert!(
        text.starts_with("HTTP/1.1 101") && text.contains(ACCEPT),
        "{text}"
    );
    socket
}
