//! Hands a socket over from a shard that is full to one that has room.
//!
//! The kernel distributes clients over the listeners of the shards by chance, so some arrive at a shard
//! whose table is full. A few places of each table are kept free for them: the shard accepts such a client
//! and hands its socket over to another ring.

use tidewheel_codec::Time;

use super::Shard;
use crate::{
    Handler,
    admission::{Admitted, Refusal},
    ring::{Completion, Op, Ring, Socket, Token},
};

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Sends a connection to the shard that has room for it.
    pub(super) fn hand_over(&mut self, socket: Socket, admitted: Admitted) {
        let waker = self.core.fanout.waker(admitted.shard.into());
        let waker = waker.expect("whoever has room can be reached").clone();
        let ticket = self.admission.begin_handoff(socket, admitted);
        let hand_over = Op::HandOver {
            socket,
            waker,
            arrival: Token::new(0, ticket),
        };
        self.core.ring.push(hand_over, Token::new(0, socket.0));
    }

    /// A connection is with another shard; or it is not, and stays to be told that there is no room.
    pub(super) fn handed_over(&mut self, completion: &Completion, now: Time) {
        let socket = Socket(completion.token.slot());
        let handoff = self.admission.end_handoff(socket);
        if completion.result >= 0 {
            self.core.stats.hand_overs.add(1);
        } else {
            // The other shard has ended, or the kernel cannot do this.
            self.admission.cancel(handoff);
            self.insert_connection(socket, Err(Refusal::Full), now);
        }
        self.accept_more(now);
    }

    /// A connection has come from another shard.
    pub(super) fn arrived(&mut self, completion: &Completion, now: Time) {
        let network = self.admission.receive_handoff(completion.token.slot());
        let socket = u32::try_from(completion.result).expect("only who arrives is told of");
        self.insert_connection(Socket(socket), Ok(network), now);
    }
}
