//! Very many clients.

use crate::{
    network::Network,
    support::{
        client::{Client, PONG, REQUEST, frame},
        process::Server,
    },
};

/// Connections that are opened side by side.
const BATCH: usize = 500;

/// So many clients, all open, and all heard from since the last of them was.
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
        prove_life(&mut clients);
    }
    server.until_connections(count as u64);
    clients
}

/// An unsolicited pong from each (RFC 6455 5.5.3): a server that pings has heard from all.
pub(crate) fn prove_life(clients: &mut [Client]) {
    let pong = frame(PONG, b"");
    for client in clients {
        client.send(&pong);
    }
}
