use std::{
    io::{Read, Write},
    mem::MaybeUninit,
    net::{TcpListener, TcpStream},
};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use tidewheel_codec::{
    frame::{FrameHeader, Opcode, encode_frame},
    mask::mask,
};

use super::accept;

/// What epoll tells of the listener; of a client it tells its place.
const LISTENER: u64 = u64::MAX;

/// Blocking sockets, and epoll only to hear who has something to say.
pub(super) fn fan_out(listener: &TcpListener) {
    let epoll = epoll::create(CreateFlags::CLOEXEC).expect("a descriptor is left");
    let data = EventData::new_u64(LISTENER);
    epoll::add(&epoll, listener, data, EventFlags::IN).expect("it is added once");
    let mut clients: Vec<TcpStream> = Vec::new();
    let mut events = [MaybeUninit::uninit(); 64];
    loop {
        let (events, _) = epoll::wait(&epoll, &mut events, None).expect("no signal is handled");
        for event in events {
            if event.data.u64() == LISTENER {
                let Some((client, _)) = accept(listener) else {
                    continue;
                };
                let data = EventData::new_u64(clients.len() as u64);
                epoll::add(&epoll, &client, data, EventFlags::IN).expect("it is added once");
                clients.push(client);
            } else if publish(&clients, event.data.u64() as usize).is_none() {
                // They all leave, and this process with them.
                return wait_for_the_end();
            }
        }
    }
}

fn wait_for_the_end() {
    loop {
        std::thread::park();
    }
}

/// Sends to all what one has sent; `None` if it is gone.
fn publish(clients: &[TcpStream], publisher: usize) -> Option<()> {
    let mut buffer = [0; 16 << 10];
    let length = (&clients[publisher]).read(&mut buffer).ok()?;
    let mut rest = &mut buffer[..length];
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let header = FrameHeader::parse(rest).expect("clients are well-behaved");
        let header = header.expect("messages come whole");
        let (message, others) = rest.split_at_mut(header.size() + header.payload_len as usize);
        let payload = &mut message[header.size()..];
        mask(payload, header.masking_key.expect("clients mask"));
        let frame = encode_frame(Opcode::Text, payload);
        for mut client in clients {
            let sent = client.write(&frame).expect("it is open");
            assert_eq!(sent, frame.len(), "a blocking socket takes everything");
        }
        rest = others;
    }
    Some(())
}
