//! What the machine gives: threads that do nothing but send(2), to a share of the subscribers each.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
};

use crate::{
    child::announce,
    cores,
    publisher::PUBLISHES,
    servers::{accept, frames, wait_for_the_end},
};

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
            wait_for_the_end();
        }
        let frames: Arc<[u8]> = frames(&mut buffer[..length]).concat().into();
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
