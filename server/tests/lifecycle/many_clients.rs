//! Up to thousands of open clients.

use crate::{
    network::Network,
    support::{
        client::{Client, PONG, REQUEST, frame},
        process::Server,
    },
};

/// Number of connections that are opened at once.
const BATCH: usize = 500;

/// Opens `count` clients, each of which sends a frame after the last one is open.
pub(crate) fn open(network: &Network, server: &Server, count: usize) -> Vec<Client> {
    let mut clients = Vec::with_capacity(count);
    while clients.len() < count {
        let first = clients.len();
        network.clients(|| {
            clients.extend((first..count.min(first + BATCH)).map(|_| {
                let mut client = Client::connect(server);
                client.send(REQUEST.as_bytes());
                client
            }));
        });
        clients[first..].iter_mut().for_each(Client::accept);
        send_pongs(&mut clients);
    }
    server.until_connections(count as u64);
    clients
}

/// Sends an unsolicited Pong from each client (RFC 6455 5.5.3), which restarts the ping interval.
pub(crate) fn send_pongs(clients: &mut [Client]) {
    let pong = frame(PONG, b"");
    for client in clients {
        client.send(&pong);
    }
}
