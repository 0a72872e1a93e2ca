//! The scaling of the machine: threads that do nothing but send(2), each to its share of the subscribers.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
};

use crate::{
    host,
    publisher::PUBLISHER_PATH,
    server_process::report_listening,
    servers::{accept, frames, wait_for_exit},
};

/// Command to a thread.
enum Command {
    /// Adds a subscriber.
    Take(TcpStream),
    /// Sends these frames to each subscriber with one send(2).
    Send(Arc<[u8]>),
}

/// Serves with `threads` threads, each on a core of its own, until the process ends. The publisher connects last.
pub(crate) fn serve(threads: u16, first_core: usize) {
    // One loopback address has too few ports for all subscribers.
    let listener = TcpListener::bind("0.0.0.0:0").expect("loopback is up");
    let address = listener.local_addr().expect("the listener is bound");
    report_listening(([127, 0, 0, 1], address.port()).into());
    let cores = first_core..first_core + usize::from(threads);
    let threads: Vec<_> = cores.map(start).collect();
    host::pin(first_core);
    let mut next = threads.iter().cycle();
    let mut publisher = loop {
        match accept(&listener) {
            Some((client, path)) if path == PUBLISHER_PATH => break client,
            Some((client, _)) => send(
                next.next().expect("there is one thread at least"),
                Command::Take(client),
            ),
            None => {}
        }
    };
    let mut buffer = [0; 16 << 10];
    loop {
        let length = publisher
            .read(&mut buffer)
            .expect("the publisher is connected");
        if length == 0 {
            wait_for_exit();
        }
        let frames: Arc<[u8]> = frames(&mut buffer[..length]).concat().into();
        for thread in &threads {
            send(thread, Command::Send(Arc::clone(&frames)));
        }
    }
}

fn start(core: usize) -> mpsc::Sender<Command> {
    let (sender, commands) = mpsc::channel();
    thread::spawn(move || {
        host::pin(core);
        let mut clients: Vec<TcpStream> = Vec::new();
        for command in commands {
            match command {
                Command::Take(client) => clients.push(client),
                Command::Send(frames) => {
                    for client in &mut clients {
                        let sent = client.write(&frames).expect("the socket is open");
                        assert_eq!(sent, frames.len(), "a blocking send is complete");
                    }
                }
            }
        }
    });
    sender
}

fn send(thread: &mpsc::Sender<Command>, command: Command) {
    assert!(thread.send(command).is_ok(), "a thread failed");
}
