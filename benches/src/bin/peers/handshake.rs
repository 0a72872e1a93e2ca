//! The opening handshake of a client with a blocking socket.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};

/// `Sec-WebSocket-Key` of the example in RFC 6455 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// `Sec-WebSocket-Accept` for that key.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Connects to a server, and completes the handshake on `path`. `receive_buffer` is the size of the receive buffer in
/// bytes; without it the kernel's default applies.
pub(crate) fn open(address: SocketAddr, path: &str, receive_buffer: Option<usize>) -> TcpStream {
    let mut socket = connect_and_request(address, path, receive_buffer);
    complete(&mut socket);
    socket
}

/// Connects to a server, and sends the request for `path`. Dropping the socket resets the connection, so that its port
/// is free at once.
pub(crate) fn begin(address: SocketAddr, path: &str) -> TcpStream {
    let socket = connect_and_request(address, path, None);
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).expect("the socket is open");
    socket
}

fn connect_and_request(
    address: SocketAddr,
    path: &str,
    receive_buffer: Option<usize>,
) -> TcpStream {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket(family, SocketType::STREAM, None).expect("a descriptor is left");
    if let Some(size) = receive_buffer {
        // The window scale is fixed when the socket connects.
        sockopt::set_socket_recv_buffer_size(&socket, size).expect("the socket is open");
    }
    connect(&socket, &address).expect("the server accepts");
    let mut socket = TcpStream::from(socket);
    socket.set_nodelay(true).expect("the socket is TCP");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    socket
        .write_all(request.as_bytes())
        .expect("the server reads and answers");
    socket
}

/// Reads the answer to the request of a client, which opens the connection.
pub(crate) fn complete(socket: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut buffer = [0; 1024];
        let length = socket
            .read(&mut buffer)
            .expect("the server reads and answers");
        assert!(
            length > 0,
            "the server closed the connection after {}",
            head.escape_ascii()
        );
        head.extend_from_slice(&buffer[..length]);
    }
    let text = String::from_utf8_lossy(&head);
    assert!(
        text.starts_with("HTTP/1.1 101") && text.contains(ACCEPT),
        "{text}"
    );
}
