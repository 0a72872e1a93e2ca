use std::{
    io::{Read, Write},
    mem::MaybeUninit,
    net::{TcpListener, TcpStream},
};

use super::{accept, frames, wait_for_the_end};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

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
                wait_for_the_end();
            }
        }
    }
}

/// Sends to all what one has sent; `None` if it is gone.
fn publish(clients: &[TcpStream], publisher: usize) -> Option<()> {
    let mut buffer = [0; 16 << 10];
    let length = (&clients[publisher]).read(&mut buffer).ok()?;
    if length == 0 {
        return None;
    }
    for frame in frames(&mut buffer[..length]) {
        for mut client in clients {
            let sent = client.write(&frame).expect("it is open");
            assert_eq!(sent, frame.len(), "a blocking socket takes everything");
        }
    }
    Some(())
}
