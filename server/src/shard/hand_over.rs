//! Hands a connection over from a full shard to a shard with a free place.
//!
//! The kernel distributes clients over the listeners of the shards by a hash, so some arrive at a shard whose
//! table is full. A few places of each table are reserved for them: the shard accepts the client, and passes
//! the socket to another ring.

use std::net::SocketAddr;

use tidewheel_codec::Time;

use super::Shard;
use crate::{
    Handler,
    admission::{Admitted, Refusal},
    ring::{Completion, Op, Ring, Socket, Token},
};

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Passes a connection to the shard that has reserved a place for it.
    pub(super) fn hand_over(&mut self, socket: Socket, peer: SocketAddr, admitted: Admitted) {
        let waker = self.core.fanout.waker(admitted.shard.into());
        let waker = waker.expect("a shard with free places has a waker").clone();
        let ticket = self.admission.begin_handoff(socket, peer, admitted);
        let hand_over = Op::HandOver {
            socket,
            waker,
            arrival: Token::new(0, ticket),
        };
        self.core.ring.push(hand_over, Token::new(0, socket.0));
    }

    /// Handles the completion of a handoff. If it has failed, the connection is refused here.
    pub(super) fn handed_over(&mut self, completion: &Completion, now: Time) {
        let socket = Socket(completion.token.slot());
        let handoff = self.admission.end_handoff(socket);
        if completion.result >= 0 {
            self.core.stats.hand_overs.add(1);
        } else {
            // The other shard has ended, or the kernel does not support it.
            let peer = self.admission.cancel(handoff);
            self.insert_connection(socket, peer, Err(Refusal::Full), now);
        }
        self.accept_more(now);
    }

    /// Handles the arrival of a connection from another shard.
    pub(super) fn arrived(&mut self, completion: &Completion, now: Time) {
        let (peer, network) = self.admission.receive_handoff(completion.token.slot());
        let socket = u32::try_from(completion.result).expect("an arrival does not fail");
        self.insert_connection(Socket(socket), peer, Ok(network), now);
    }
}
