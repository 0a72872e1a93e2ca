//! From a shard that is full to one that has room.
//!
//! The kernel deals clients out to the listeners of the shards by chance, also to that of a shard whose
//! table is full. So a few places of each table are kept, to accept who comes then, and to hand the
//! socket over to another ring.

use tidewheel_codec::Time;

use super::Shard;
use crate::{
    Handler,
    admission::{Admitted, Refusal},
    ring::{Completion, Op, Ring, Socket, Token},
};

/// A connection that is on its way to another shard, and takes a place here until it is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traveller {
    socket: Socket,
    admitted: Admitted,
    ticket: u32,
}

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Sends a connection to the shard that has room for it.
    pub(super) fn hand_over(&mut self, socket: Socket, admitted: Admitted) {
        let bell = self.fanout.bell(admitted.shard.into());
        let bell = bell.expect("whoever has room can be reached").clone();
        let ticket = self.admission.send_off(admitted.network);
        self.lists.travellers.push(Traveller {
            socket,
            admitted,
            ticket,
        });
        let arrival = Token::new(0, ticket);
        let hand_over = Op::HandOver {
            socket,
            bell,
            arrival,
        };
        self.ring.push(hand_over, Token::new(0, socket.0));
    }

    /// A connection is with another shard; or it is not, and stays to be told that there is no room.
    pub(super) fn handed_over(&mut self, completion: &Completion, now: Time) {
        let socket = Socket(completion.token.slot());
        let mut travellers = self.lists.travellers.iter();
        let at = travellers.position(|traveller| traveller.socket == socket);
        let Traveller {
            admitted, ticket, ..
        } = self
            .lists
            .travellers
            .swap_remove(at.expect("it was handed over once"));
        if completion.result >= 0 {
            self.stats.hand_overs.add(1);
        } else {
            // The other shard has ended, or the kernel cannot do this.
            self.admission.take_ticket(ticket);
            self.admission.leave(admitted);
            self.seat(socket, Err(Refusal::Full), now);
        }
        self.accept_more(now);
    }

    /// A connection has come from another shard.
    pub(super) fn arrived(&mut self, completion: &Completion, now: Time) {
        let network = self.admission.take_ticket(completion.token.slot());
        let socket = u32::try_from(completion.result).expect("only who arrives is told of");
        self.seat(Socket(socket), Ok(network), now);
    }
}
