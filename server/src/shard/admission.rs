//! The admission of connections to a shard, and their handoff to another.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::{
    admission::{Admission, Admitted, Network, Refusal},
    ring::Socket,
};

/// The part of a shard in the admission of all connections of its server.
#[derive(Debug)]
pub(super) struct ShardAdmission {
    admission: Arc<Admission>,
    shard: u16,
    /// Number of admitted connections, at most.
    connections_max: u32,
    /// The network of the connection in each slot, if networks are counted.
    networks: Vec<Option<Network>>,
    handoffs: Vec<Handoff>,
}

/// A connection that is being handed over to another shard. It takes a place here until that has completed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handoff {
    pub(super) socket: Socket,
    pub(super) admitted: Admitted,
    pub(super) ticket: u32,
}

impl ShardAdmission {
    pub(super) fn new(admission: Arc<Admission>, shard: u16, connections_max: u32) -> Self {
        admission.open(shard, connections_max);
        Self {
            admission,
            shard,
            connections_max,
            networks: Vec::new(),
            handoffs: Vec::new(),
        }
    }

    /// Admits a connection, if a place is free on any shard.
    pub(super) fn admit(&self, address: IpAddr) -> Result<Admitted, Refusal> {
        self.admission.admit(address, self.shard)
    }

    /// Returns whether an admitted connection stays on this shard.
    pub(super) fn are_here(&self, admitted: &Admitted) -> bool {
        admitted.shard == self.shard
    }

    /// Notes the network of a connection.
    pub(super) fn note_network(&mut self, slot: u32, network: Network) {
        let networks = &mut self.networks;
        if networks.len() <= slot as usize {
            networks.resize(slot as usize + 1, None);
        }
        networks[slot as usize] = Some(network);
    }

    /// Removes a connection from the counts of admitted connections.
    pub(super) fn forget(&mut self, slot: u32) {
        let network = self.networks.get_mut(slot as usize);
        self.admission.remove(Admitted {
            shard: self.shard,
            network: network.and_then(Option::take),
        });
    }

    /// Number of connections that are being handed over to another shard.
    pub(super) fn handoffs(&self) -> usize {
        self.handoffs.len()
    }

    /// Begins the handoff of a connection. Returns the ticket by which the other shard identifies it.
    pub(super) fn begin_handoff(
        &mut self,
        socket: Socket,
        peer: SocketAddr,
        admitted: Admitted,
    ) -> u32 {
        let ticket = self.admission.begin_handoff(peer, admitted.network);
        self.handoffs.push(Handoff {
            socket,
            admitted,
            ticket,
        });
        ticket
    }

    /// Ends the handoff of a connection.
    ///
    /// # Panics
    /// If no handoff of `socket` has begun.
    pub(super) fn end_handoff(&mut self, socket: Socket) -> Handoff {
        let at = self.handoffs.iter().position(|it| it.socket == socket);
        self.handoffs
            .swap_remove(at.expect("the handoff has begun"))
    }

    /// Undoes the admission of a connection whose handoff has failed. Returns the address of its peer.
    pub(super) fn cancel(&self, handoff: Handoff) -> SocketAddr {
        let (peer, _) = self.admission.receive_handoff(handoff.ticket);
        self.admission.remove(handoff.admitted);
        peer
    }

    /// Takes the peer's address and the network of a connection that another shard has handed over.
    pub(super) fn receive_handoff(&self, ticket: u32) -> (SocketAddr, Option<Network>) {
        self.admission.receive_handoff(ticket)
    }

    /// Ends the admission to this shard.
    pub(super) fn close(&mut self) {
        let networks = std::mem::take(&mut self.networks);
        let networks = networks.into_iter().flatten();
        self.admission
            .close(self.shard, self.connections_max, networks);
    }
}
