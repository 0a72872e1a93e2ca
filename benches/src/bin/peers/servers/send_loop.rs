//! The cost of the system calls of a fan-out: send(2) for each subscriber and message, and nothing else.

use std::{
    io::{Read, Write},
    mem::MaybeUninit,
    net::{TcpListener, TcpStream},
};

use super::{accept, frames, wait_for_exit};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// Data of the listener's epoll events. A client's events have the index of the client.
const LISTENER: u64 = u64::MAX;

/// Serves blocking sockets. epoll names the clients that can be read.
pub(super) fn fan_out(listener: &TcpListener) {
    let epoll = epoll::create(CreateFlags::CLOEXEC).expect("a descriptor is left");
    let data = EventData::new_u64(LISTENER);
    epoll::add(&epoll, listener, data, EventFlags::IN).expect("each socket is added once");
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
                epoll::add(&epoll, &client, data, EventFlags::IN)
                    .expect("each socket is added once");
                clients.push(client);
            } else if publish(&clients, event.data.u64() as usize).is_none() {
                // All clients leave at the end, when this process ends.
                wait_for_exit();
            }
        }
    }
}

/// Sends the messages of a publisher to all clients. Returns `None` if the publisher has left.
fn publish(clients: &[TcpStream], publisher: usize) -> Option<()> {
    let mut buffer = [0; 16 << 10];
    let length = (&clients[publisher]).read(&mut buffer).ok()?;
    if length == 0 {
        return None;
    }
    for frame in frames(&mut buffer[..length]) {
        for mut client in clients {
            let sent = client.write(&frame).expect("the socket is open");
            assert_eq!(sent, frame.len(), "a blocking send is complete");
        }
    }
    Some(())
}
