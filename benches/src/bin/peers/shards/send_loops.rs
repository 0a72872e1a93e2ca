//! What the machine gives: threads that do nothing but send(2), to a share of the subscribers each.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
};

use tidewheel_codec::{
    frame::{FrameHeader, Opcode, encode_frame},
    mask::mask,
};

use crate::{beside::PUBLISHES, child::announce, cores, servers::accept};

/// What is asked of a thread.
enum Order {
    /// One more subscriber.
    Take(TcpStream),
    /// Frames that each is to get, in one send.
    Send(Arc<[u8]>),
}

/// Serves with a thread on each of the first `threads` cores, until the process ends. Who publishes
/// comes last.
pub(crate) fn serve(threads: u16, first_core: usize) {
    // One address has too few ports for all.
    let listener = TcpListener::bind("0.0.0.0:0").expect("there is a loopback");
    let address = listener.local_addr().expect("it is bound");
    announce(([127, 0, 0, 1], address.port()).into());
    let cores = first_core..first_core + usize::from(threads);
    let threads: Vec<_> = cores.map(start).collect();
    cores::pin(first_core);
    let mut next = threads.iter().cycle();
    let mut publisher = loop {
        match accept(&listener) {
            Some((client, path)) if path == PUBLISHES => break client,
            Some((client, _)) => tell(next.next().expect("one at least"), Order::Take(client)),
            None => {}
        }
    };
    let mut buffer = [0; 16 << 10];
    loop {
        let length = publisher.read(&mut buffer).expect("it is well-behaved");
        if length == 0 {
            return wait_for_the_end();
        }
        let frames: Arc<[u8]> = unmask(&mut buffer[..length]).into();
        for thread in &threads {
            tell(thread, Order::Send(Arc::clone(&frames)));
        }
    }
}

fn start(core: usize) -> mpsc::Sender<Order> {
    let (sender, orders) = mpsc::channel();
    thread::spawn(move || {
        cores::pin(core);
        let mut clients: Vec<TcpStream> = Vec::new();
        for order in orders {
            match order {
                Order::Take(client) => clients.push(client),
                Order::Send(frames) => {
                    for client in &mut clients {
                        let sent = client.write(&frames).expect("it is open");
                        assert_eq!(sent, frames.len(), "a blocking socket takes everything");
                    }
                }
            }
        }
    });
    sender
}

fn tell(thread: &mpsc::Sender<Order>, order: Order) {
    assert!(thread.send(order).is_ok(), "a thread has failed");
}

/// The messages as they go out. The publisher writes them at once, and they come whole.
fn unmask(mut messages: &mut [u8]) -> Vec<u8> {
    let mut frames = Vec::new();
    while !messages.is_empty() {
        let header = FrameHeader::parse(messages).expect("it is well-behaved");
        let header = header.expect("messages come whole");
        let (message, others) = messages.split_at_mut(header.size() + header.payload_len as usize);
        let payload = &mut message[header.size()..];
        mask(payload, header.masking_key.expect("clients mask"));
        frames.extend_from_slice(&encode_frame(Opcode::Text, payload));
        messages = others;
    }
    frames
}

/// They all leave, and this process with them.
fn wait_for_the_end() {
    loop {
        thread::park();
    }
}
