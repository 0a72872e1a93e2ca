//! The admission of connections to a shard, and their handoff to another.

use std::{net::IpAddr, sync::Arc};

use crate::{
    admission::{Admission, Admitted, Network, Refusal},
    ring::Socket,
};

/// The part of a shard in the admission of all connections of its server.
#[derive(Debug)]
pub(super) struct ShardAdmission {
    admission: Arc<Admission>,
    shard: u16,
    /// Connections that may stay.
    room: u32,
    /// The network of each slot's connection, where those are counted.
    networks: Vec<Option<Network>>,
    handoffs: Vec<Handoff>,
}

/// A connection that is on its way to another shard, and takes a place here until it is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handoff {
    pub(super) socket: Socket,
    pub(super) admitted: Admitted,
    pub(super) ticket: u32,
}

impl ShardAdmission {
    pub(super) fn new(admission: Arc<Admission>, shard: u16, room: u32) -> Self {
        admission.open(shard, room);
        Self {
            admission,
            shard,
            room,
            networks: Vec::new(),
            handoffs: Vec::new(),
        }
    }

    /// Admits a connection, if there is room for it.
    pub(super) fn enter(&self, address: Option<IpAddr>) -> Result<Admitted, Refusal> {
        self.admission.enter(address, self.shard)
    }

    /// Whether this is the shard that has room for an admitted connection.
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

    /// Takes a connection out of the counts of those that have been admitted.
    pub(super) fn forget(&mut self, slot: u32) {
        let network = self.networks.get_mut(slot as usize);
        self.admission.leave(Admitted {
            shard: self.shard,
            network: network.and_then(Option::take),
        });
    }

    /// Connections on their way to another shard.
    pub(super) fn handoffs(&self) -> usize {
        self.handoffs.len()
    }

    /// Begins the handoff of a connection; returns the ticket by which the other shard knows it.
    pub(super) fn begin_handoff(&mut self, socket: Socket, admitted: Admitted) -> u32 {
        let ticket = self.admission.begin_handoff(admitted.network);
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
    /// If there is none.
    pub(super) fn end_handoff(&mut self, socket: Socket) -> Handoff {
        let at = self.handoffs.iter().position(|it| it.socket == socket);
        self.handoffs
            .swap_remove(at.expect("its handoff has begun"))
    }

    /// Undoes a handoff that has failed: the connection is no longer admitted.
    pub(super) fn cancel(&self, handoff: Handoff) {
        self.admission.receive_handoff(handoff.ticket);
        self.admission.leave(handoff.admitted);
    }

    /// Takes the network of a connection that has come from another shard.
    pub(super) fn receive_handoff(&self, ticket: u32) -> Option<Network> {
        self.admission.receive_handoff(ticket)
    }

    /// Ends the admission to this shard.
    pub(super) fn close(&mut self) {
        let networks = std::mem::take(&mut self.networks);
        let networks = networks.into_iter().flatten();
        self.admission.close(self.shard, self.room, networks);
    }
}
