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

/// What epoll tells of the listener; of a client it tells its place.
const LISTENER: u64 = u64::MAX;

/// The room of a client for what has arrived, which doubles while a frame does not fit.
const ROOM: usize = 16 << 10;

struct Client {
    socket: TcpStream,
    /// What has arrived and is not answered: so many bytes at the start.
    buffer: Vec<u8>,
    filled: usize,
}

/// Blocking sockets, and epoll only to hear who has something to say. Frames are unmasked where they
/// lie, and all that arrived whole is written back from there at once.
pub(super) fn echo(listener: &TcpListener) {
    let epoll = epoll::create(CreateFlags::CLOEXEC).expect("a descriptor is left");
    let data = EventData::new_u64(LISTENER);
    epoll::add(&epoll, listener, data, EventFlags::IN).expect("it is added once");
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
                epoll::add(&epoll, &socket, data, EventFlags::IN).expect("it is added once");
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
            buffer: vec![0; ROOM],
            filled: 0,
        }
    }

    /// Reads once, and writes back what is whole; `None` if the client is gone, or has said Close,
    /// which is its own answer.
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

/// Answers to whole frames.
struct Answers {
    /// Where they lie.
    place: Range<usize>,
    /// How long the frames were.
    consumed: usize,
    /// Whether one is to a Close.
    is_last: bool,
}

impl Answers {
    /// Makes them of the whole frames at the start of `bytes`.
    fn make(bytes: &mut [u8]) -> Self {
        let (mut place, mut consumed, mut is_last) = (0..0, 0, false);
        loop {
            let header = FrameHeader::parse(&bytes[consumed..]).expect("clients are well-behaved");
            let Some(header) = header else { break };
            let begin = consumed + header.size();
            let payload = begin..begin + header.payload_len as usize;
            if payload.end > bytes.len() {
                break;
            }
            let key = header.masking_key.expect("clients mask");
            mask(&mut bytes[payload.clone()], key);
            is_last |= header.opcode == Opcode::Close;
            let mut answer = Vec::with_capacity(10);
            FrameHeader {
                masking_key: None,
                ..header
            }
            .encode(&mut answer);
            if place.is_empty() {
                // Shorter by the masking key, so there is room for it.
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
