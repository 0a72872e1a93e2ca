//! The cost of the system calls of an echo: read(2), unmasking in place, write(2), and nothing else.

use std::{
    io::{Read, Write},
    mem::MaybeUninit,
    net::{TcpListener, TcpStream},
    ops::Range,
};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use tidewheel_codec::{
    frame::{FrameHeader, Opcode},
    mask::mask,
};

use super::accept;

/// Data of the listener's epoll events. A client's events have the index of the client.
const LISTENER: u64 = u64::MAX;

/// First size of a client's buffer in bytes, which doubles while a frame does not fit.
const BUFFER_BYTES: usize = 16 << 10;

struct Client {
    socket: TcpStream,
    /// The first `filled` bytes have arrived and are not answered.
    buffer: Vec<u8>,
    filled: usize,
}

/// Serves blocking sockets. epoll names the clients that can be read. All complete frames of a read are unmasked in
/// place and written back with one write(2).
pub(super) fn echo(listener: &TcpListener) {
    let epoll = epoll::create(CreateFlags::CLOEXEC).expect("a descriptor is left");
    let data = EventData::new_u64(LISTENER);
    epoll::add(&epoll, listener, data, EventFlags::IN).expect("each socket is added once");
    let mut clients: Vec<Option<Client>> = Vec::new();
    let mut events = [MaybeUninit::uninit(); 256];
    loop {
        let (events, _) = epoll::wait(&epoll, &mut events, None).expect("no signal is handled");
        for event in events {
            if event.data.u64() == LISTENER {
                let Some((socket, _)) = accept(listener) else {
                    continue;
                };
                let data = EventData::new_u64(clients.len() as u64);
                epoll::add(&epoll, &socket, data, EventFlags::IN)
                    .expect("each socket is added once");
                clients.push(Some(Client::new(socket)));
            } else {
                let client = &mut clients[event.data.u64() as usize];
                if client.as_mut().and_then(Client::answer).is_none() {
                    *client = None;
                }
            }
        }
    }
}

impl Client {
    fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            buffer: vec![0; BUFFER_BYTES],
            filled: 0,
        }
    }

    /// Reads once, and writes the complete frames back. Returns `None` if the client has left or has sent Close, whose
    /// echo is the answer to it.
    fn answer(&mut self) -> Option<()> {
        let length = self.socket.read(&mut self.buffer[self.filled..]).ok()?;
        self.filled += length;
        let Answers {
            place,
            consumed,
            is_last,
        } = Answers::make(&mut self.buffer[..self.filled]);
        self.socket.write_all(&self.buffer[place]).ok()?;
        if length == 0 || is_last {
            return None;
        }
        self.buffer.copy_within(consumed..self.filled, 0);
        self.filled -= consumed;
        if self.filled == self.buffer.len() {
            self.buffer.resize(2 * self.filled, 0);
        }
        Some(())
    }
}

/// Answers to complete frames, in the buffer of the frames.
struct Answers {
    /// Bytes of the answers.
    place: Range<usize>,
    /// Bytes of the frames.
    consumed: usize,
    /// Whether a frame was a Close.
    is_last: bool,
}

impl Answers {
    /// Converts the complete frames at the start of `bytes`.
    fn make(bytes: &mut [u8]) -> Self {
        let (mut place, mut consumed, mut is_last) = (0..0, 0, false);
        loop {
            let header = FrameHeader::parse(&bytes[consumed..])
                .expect("clients send valid frames and requests");
            let Some(header) = header else { break };
            let begin = consumed + header.size();
            let payload = begin..begin + header.payload_len as usize;
            if payload.end > bytes.len() {
                break;
            }
            let key = header.masking_key.expect("clients mask their frames");
            mask(&mut bytes[payload.clone()], key);
            is_last |= header.opcode == Opcode::Close;
            let mut answer = Vec::with_capacity(10);
            FrameHeader {
                masking_key: None,
                ..header
            }
            .encode(&mut answer);
            if place.is_empty() {
                // The answer's header has no masking key, so it fits before the payload.
                place = payload.start - answer.len()..payload.start - answer.len();
            }
            let start = place.end + answer.len();
            bytes[place.end..start].copy_from_slice(&answer);
            if start != payload.start {
                bytes.copy_within(payload.clone(), start);
            }
            (place.end, consumed) = (start + payload.len(), payload.end);
        }
        Self {
            place,
            consumed,
            is_last,
        }
    }
}
