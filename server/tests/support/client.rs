//! A WebSocket client that shares no code with the server.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use super::{process::Server, socket_table, wait};

/// Timeout of a read or a write.
const IO_TIMEOUT: Duration = Duration::from_secs(20);

/// The request of RFC 6455 1.3.
pub(crate) const REQUEST: &str = "GET /chat HTTP/1.1\r\n\
    Host: server.example.com\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\
    \r\n";

// Parts of the first byte of a frame: FIN, RSV1-3, opcode (RFC 6455 5.2).
pub(crate) const FIN: u8 = 0x80;
pub(crate) const CONTINUATION: u8 = 0x00;
pub(crate) const TEXT: u8 = 0x01;
pub(crate) const BINARY: u8 = 0x02;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8A;

const MASKING_KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// Encodes a masked frame.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len() + 14);
    bytes.push(first);
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=65535 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASKING_KEY);
    let key = MASKING_KEY.iter().cycle();
    bytes.extend(payload.iter().zip(key).map(|(byte, key)| byte ^ key));
    bytes
}

/// Encodes an unfragmented text message.
pub(crate) fn text(payload: &str) -> Vec<u8> {
    frame(FIN | TEXT, payload.as_bytes())
}

/// Encodes an unfragmented binary message.
pub(crate) fn binary(payload: &[u8]) -> Vec<u8> {
    frame(FIN | BINARY, payload)
}

/// Encodes a Close with a code and a reason.
pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// A frame from the server.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Received {
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

impl Received {
    pub(crate) fn new(first: u8, payload: impl AsRef<[u8]>) -> Self {
        Self {
            first,
            payload: payload.as_ref().to_vec(),
        }
    }

    /// Returns the code of a Close.
    ///
    /// # Panics
    /// If the frame is not a Close.
    #[track_caller]
    pub(crate) fn close_code(&self) -> u16 {
        assert_eq!(self.first, CLOSE, "expected a Close, got {self:?}");
        u16::from_be_bytes([self.payload[0], self.payload[1]])
    }
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.payload[..self.payload.len().min(32)];
        write!(
            f,
            "frame {:#04x} of {} bytes: {}",
            self.first,
            self.payload.len(),
            shown.escape_ascii()
        )
    }
}

/// The end of a TCP connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    Fin,
    Reset,
}

/// The client's end of a connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

impl Client {
    /// Connects without a handshake.
    pub(crate) fn connect(server: &Server) -> Self {
        Self::connect_to(server.address).expect("the server accepts a connection")
    }

    /// Connects to an address without a handshake.
    pub(crate) fn connect_to(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream };
        client.set_timeout(IO_TIMEOUT);
        Ok(client)
    }

    fn through(socket: socket2::Socket, server: &Server) -> Self {
        socket
            .connect(&server.address.into())
            .expect("the server accepts a connection");
        let mut client = Self {
            stream: socket.into(),
        };
        client.set_timeout(IO_TIMEOUT);
        client
    }

    /// Connects from another address of this host, without a handshake.
    pub(crate) fn connect_from(server: &Server, address: [u8; 4]) -> Self {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket
            .bind(&SocketAddr::from((address, 0)).into())
            .expect("the address belongs to this host");
        Self::through(socket, server)
    }

    /// Connects, and completes the opening handshake.
    pub(crate) fn open(server: &Server) -> Self {
        Self::open_path(server, "/chat")
    }

    /// Connects, and completes the opening handshake for `path`.
    pub(crate) fn open_path(server: &Server, path: &str) -> Self {
        let mut client = Self::connect(server);
        client.send_request(path);
        client.accept();
        client
    }

    /// Sends [`REQUEST`] for `path`.
    pub(crate) fn send_request(&mut self, path: &str) {
        self.send(REQUEST.replace("/chat", path).as_bytes());
    }

    /// Connects with a small receive buffer, and completes the opening handshake.
    pub(crate) fn open_with_small_buffer(server: &Server) -> Self {
        let mut client = Self::connect_with_small_buffer(server);
        client.send(REQUEST.as_bytes());
        client.accept();
        client
    }

    /// Connects with a small receive buffer, without a handshake.
    pub(crate) fn connect_with_small_buffer(server: &Server) -> Self {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket
            .set_recv_buffer_size(4096)
            .expect("SO_RCVBUF can be set");
        Self::through(socket, server)
    }

    /// Sends `message` repeatedly, without reading, until a write blocks.
    pub(crate) fn send_until_blocked(&mut self, message: &[u8]) {
        self.set_timeout(Duration::from_millis(80));
        while self.stream.write_all(message).is_ok() {}
        self.set_timeout(IO_TIMEOUT);
    }

    /// Sends `message` repeatedly, without reading, until the server stops reading. Small frames still fit
    /// into the socket's buffers.
    pub(crate) fn send_until_paused(&mut self, server: &Server, message: &[u8]) {
        let port = self.port();
        let is_unread = || socket_table::socket(server.port(), port).unread > 0;
        loop {
            self.send(message);
            if (0..5).all(|_| {
                wait::pause(Duration::from_millis(4));
                is_unread()
            }) {
                return;
            }
        }
    }

    /// Opens 100 clients: a quarter each between two frames, within a header, within a payload, and
    /// between two fragments.
    pub(crate) fn open_100_in_mid_frame(server: &Server) -> Vec<Self> {
        let mut clients = Self::open_many(server, 100);
        let unfinished = [
            Vec::new(),
            vec![0x82, 0xFE, 0x10],
            binary(&[9; 50_000])[..40_000].to_vec(),
            vec![0x01, 0x80, 1, 2, 3, 4],
        ];
        for (client, bytes) in clients.iter_mut().zip(unfinished.iter().cycle()) {
            client.send(bytes);
        }
        clients
    }

    /// Opens `count` clients.
    pub(crate) fn open_many(server: &Server, count: usize) -> Vec<Self> {
        (0..count).map(|_| Self::open(server)).collect()
    }

    /// Sets the timeout of reads and writes.
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.stream
            .set_read_timeout(Some(timeout))
            .and_then(|()| self.stream.set_write_timeout(Some(timeout)))
            .expect("the timeout is not zero");
    }

    pub(crate) fn port(&self) -> u16 {
        let address = self.stream.local_addr();
        address.expect("the socket is connected").port()
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// Reads the head of a response, and no byte behind it.
    #[track_caller]
    pub(crate) fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let (mut chunk, before) = ([0; 1024], head.len());
            let seen = self.stream.peek(&mut chunk).expect("the server responds");
            assert!(seen > 0, "TCP ended within the head of the response");
            head.extend(&chunk[..seen]);
            let end = head.windows(4).position(|it| it == b"\r\n\r\n");
            head.truncate(end.map_or(head.len(), |end| end + 4));
            self.bytes(head.len() - before);
        }
        String::from_utf8(head).expect("the head is UTF-8")
    }

    /// Reads the response to [`REQUEST`], and asserts that it accepts the connection.
    #[track_caller]
    pub(crate) fn accept(&mut self) {
        let head = self.head();
        assert!(
            head.starts_with("HTTP/1.1 101 "),
            "expected 101 Switching Protocols, got {head}"
        );
        let accept = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        assert!(
            head.to_ascii_lowercase()
                .contains(&accept.to_ascii_lowercase()),
            "the accept key of RFC 6455 1.3 is not in {head}"
        );
    }

    /// Reads `count` bytes.
    #[track_caller]
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        if let Err(error) = self.stream.read_exact(&mut bytes) {
            panic!("expected {count} bytes, got: {error}");
        }
        bytes
    }

    /// Reads a frame.
    #[track_caller]
    pub(crate) fn frame(&mut self) -> Received {
        let head = self.bytes(2);
        assert_eq!(
            head[1] & 0x80,
            0,
            "a server must not mask a frame (RFC 6455 5.1)"
        );
        let length = match head[1] {
            126 => u64::from(u16::from_be_bytes(
                self.bytes(2).try_into().expect("2 bytes"),
            )),
            127 => u64::from_be_bytes(self.bytes(8).try_into().expect("8 bytes")),
            length => u64::from(length),
        };
        Received {
            first: head[0],
            payload: self.bytes(usize::try_from(length).expect("usize has 64 bits")),
        }
    }

    /// Reads the next frame that is not a Ping. Leaves Pings unanswered.
    #[track_caller]
    pub(crate) fn frame_except_ping(&mut self) -> Received {
        loop {
            let frame = self.frame();
            if frame.first != PING {
                return frame;
            }
        }
    }

    /// Reads a frame, and asserts its first byte and payload.
    #[track_caller]
    pub(crate) fn expect(&mut self, first: u8, payload: impl AsRef<[u8]>) {
        assert_eq!(self.frame(), Received::new(first, payload));
    }

    /// Reads until TCP ends, and returns the bytes before the end.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> (Vec<u8>, End) {
        let mut rest = Vec::new();
        let mut chunk = [0; 16384];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return (rest, End::Fin),
                Ok(count) => rest.extend(&chunk[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                        return (rest, End::Reset);
                    }
                    _ => panic!("expected FIN or RST, got: {error}"),
                },
            }
        }
    }

    /// Reads the end of TCP, and asserts that no byte precedes it.
    #[track_caller]
    pub(crate) fn end(&mut self) -> End {
        let (rest, end) = self.rest();
        assert!(rest.is_empty(), "unexpected: {}", rest.escape_ascii());
        end
    }

    /// Sends FIN.
    pub(crate) fn finish(&mut self) {
        // Fails if the server has reset the connection already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Sends RST.
    pub(crate) fn reset(self) {
        let socket = socket2::Socket::from(self.stream);
        socket
            .set_linger(Some(Duration::ZERO))
            .expect("SO_LINGER can be set");
    }
}
