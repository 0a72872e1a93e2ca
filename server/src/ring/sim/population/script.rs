//! The bytes that all clients of a ring send and expect.

use tidewheel_codec::{
    frame::{FrameHeader, Opcode},
    handshake::{ClientRequest, Limits, Response},
};

/// Settings of a population of clients.
#[derive(Clone, Debug)]
pub struct Population {
    /// Seed of the clients' handshake nonce and masking keys.
    pub seed: u64,
    /// Size of the direct descriptor table.
    pub sockets: u32,
    /// Number of receive buffers.
    pub buffers: u16,
    /// Size of each receive buffer in bytes.
    pub buffer_size: u32,
    /// Size of the binary message of each client in bytes: at least 8, below half of `buffer_size`.
    pub message_size: usize,
    /// The text of published messages.
    pub published: String,
}

/// A message for clients to send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientMessage {
    /// A binary message, distinct for each client, which the server must echo.
    Echo,
    /// A text message.
    Text(&'static str),
    /// A Close frame with this code.
    Close(tidewheel_codec::CloseCode),
}

/// The bytes that all clients of a ring send and expect.
#[derive(Debug)]
pub(super) struct Script {
    request_bytes: Vec<u8>,
    request: ClientRequest<'static>,
    /// The response to the first request, once it was validated. All responses must be equal.
    response: Vec<u8>,
    message_size: usize,
    published: String,
    keys: fastrand::Rng,
    /// The bytes that a client sends, built here.
    output: Vec<u8>,
}

impl Script {
    pub(super) fn new(population: Population) -> Self {
        let Population {
            message_size,
            buffer_size,
            ..
        } = population;
        assert!(
            (8..buffer_size as usize / 2).contains(&message_size),
            "the message size is {message_size} bytes; it must be at least 8, and below {}",
            buffer_size / 2
        );
        let mut keys = fastrand::Rng::with_seed(population.seed);
        let mut nonce = [0; 16];
        keys.fill(&mut nonce);
        let request = ClientRequest::new("population", "/", nonce);
        let mut request_bytes = Vec::new();
        request.write(&mut request_bytes);
        Self {
            request_bytes,
            request,
            response: Vec::new(),
            message_size,
            published: population.published,
            keys,
            output: Vec::new(),
        }
    }

    /// The binary message of a client.
    pub(super) fn message(&self, client: u32) -> impl Iterator<Item = u8> + use<> {
        let pattern = u64::from(client).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let bytes = pattern.to_le_bytes().into_iter().cycle();
        bytes.take(self.message_size)
    }

    /// The text of published messages.
    pub(super) fn published(&self) -> &str {
        &self.published
    }

    /// Asserts that these bytes are the whole response to the request.
    pub(super) fn check_response(&mut self, bytes: &[u8]) {
        if self.response.is_empty() {
            let parsed = Response::parse(bytes, &Limits::default(), &self.request);
            let (_, size) = parsed
                .expect("the server accepts the handshake")
                .expect("the response comes in one piece");
            assert_eq!(size, bytes.len(), "no bytes follow the response");
            self.response = bytes.to_vec();
        }
        assert!(bytes == self.response, "all responses are equal");
    }

    pub(super) fn clear_output(&mut self) {
        self.output.clear();
    }

    pub(super) fn output(&self) -> &[u8] {
        &self.output
    }

    /// Appends the request to the output.
    pub(super) fn push_request(&mut self) {
        self.output.extend_from_slice(&self.request_bytes);
    }

    /// Appends a client's binary message to the output.
    pub(super) fn push_message(&mut self, client: u32) {
        let payload = self.message(client);
        self.push_frame(Opcode::Binary, self.message_size, payload);
    }

    /// Appends a masked frame with a payload of `length` bytes to the output.
    pub(super) fn push_frame(
        &mut self,
        opcode: Opcode,
        length: usize,
        payload: impl Iterator<Item = u8>,
    ) {
        let key: [u8; 4] = self.keys.u32(..).to_be_bytes();
        FrameHeader::new(opcode, Some(key), length as u64).encode(&mut self.output);
        let masked = payload.zip(key.into_iter().cycle());
        self.output.extend(masked.map(|(byte, mask)| byte ^ mask));
    }
}
