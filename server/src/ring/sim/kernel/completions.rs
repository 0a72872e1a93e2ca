//! Completions, on their way to the completion queue, and those that do not fit into it.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::{
    super::{
        super::{Completion, OpCode, Token},
        What,
        socket::PeerState,
    },
    Due, Kernel,
};

/// What a receive is yet to tell.
#[derive(Debug)]
pub(super) struct Coming {
    socket: u32,
    /// The events that are its completions, in order.
    completions: VecDeque<u64>,
}

impl Kernel {
    /// Takes the next completion; those that did not fit into the queue come behind it, in order
    /// (io_uring_setup(2), `IORING_FEAT_NODROP`).
    pub(in crate::ring::sim) fn reap(&mut self) -> Option<Completion> {
        if self.ready.is_empty() {
            self.flush_overflow();
        }
        self.ready.pop_front()
    }

    pub(in crate::ring::sim) fn take_filled(&mut self, fill: Token) -> BytesMut {
        let is_coming = self.coming.contains_key(&(OpCode::Fill, fill));
        assert!(
            !is_coming,
            "the buffer is lent until its receive has completed"
        );
        self.filled.remove(&fill).expect("a receive has completed")
    }

    /// Whether the completion queue is empty, whatever the kernel keeps beside it.
    pub(in crate::ring::sim) fn queue_is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// How many completions have not fitted into the queue.
    pub(in crate::ring::sim) fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// Moves what did not fit to the queue, as far as there is room.
    pub(super) fn flush_overflow(&mut self) {
        let room = self.simulation.completions - self.ready.len();
        let count = room.min(self.overflow.len());
        self.ready.extend(self.overflow.drain(..count));
    }

    /// Puts a completion into the queue; or, where that is full, behind those that did not fit
    /// before, so that they keep their order.
    pub(super) fn post(&mut self, mut completion: Completion) {
        let whose = (completion.op, completion.token);
        if let Some(coming) = self.coming.get_mut(&whose) {
            coming.completions.pop_front();
            if !completion.more {
                self.coming.remove(&whose);
            }
        }
        let fits = self.overflow.is_empty() && self.ready.len() < self.simulation.completions;
        if !fits {
            self.overflowed += 1;
            self.note(What::Overflowed);
            if std::mem::take(&mut completion.more) {
                self.end_multishot(completion.op, completion.token);
            }
        }
        let Completion {
            op,
            token,
            result,
            more,
            ..
        } = completion;
        self.note(What::Completed {
            op,
            token,
            result,
            more,
        });
        if fits {
            self.ready.push_back(completion);
        } else {
            self.overflow.push_back(completion);
        }
    }

    /// Ends a multishot operation with the completion that does not fit (since Linux 6.6; before,
    /// some went on). What it would have told later has not happened yet.
    fn end_multishot(&mut self, op: OpCode, token: Token) {
        match op {
            OpCode::Accept => self.accepts.retain(|(accept, _)| *accept != token),
            OpCode::Receive => self.take_back(token),
            op => panic!("{op:?} completes once"),
        }
    }

    /// Puts what a receive would have told later back into its socket.
    fn take_back(&mut self, token: Token) {
        let Some(Coming {
            socket,
            completions,
        }) = self.coming.remove(&(OpCode::Receive, token))
        else {
            return;
        };
        let mut bytes = Vec::new();
        for serial in completions {
            let later = self.events.insert(serial, Due::Nothing);
            if let Some(Due::Completion(completion)) = later
                && let Some(buffer) = completion.buffer
            {
                bytes.extend_from_slice(&buffer);
            }
        }
        let socket = self.sockets[socket as usize].as_mut();
        let Some(socket) = socket.filter(|socket| socket.received_by == Some(token)) else {
            return;
        };
        socket.receive = None;
        if socket.peer != PeerState::Reset {
            bytes.extend(socket.inbound.drain(..));
            socket.inbound = bytes.into();
        }
    }

    /// Completes now or, as a late completion, after what others complete meanwhile.
    pub(super) fn complete(&mut self, op: OpCode, token: Token, result: i32) {
        let late = self.simulation.faults.late;
        let at_ms = if self.chance(late) {
            self.now_ms + self.random.u64(0..=2)
        } else {
            self.now_ms
        };
        let place = self.random.u64(..) >> 1;
        let completion = Completion {
            op,
            token,
            result,
            more: false,
            buffer: None,
        };
        self.schedule(at_ms, place, Due::Completion(completion));
    }

    /// Completes a receive: those of one socket keep their order.
    pub(super) fn complete_receive(&mut self, index: u32, completion: Completion) {
        let late = self.simulation.faults.late;
        let mut at_ms = self.now_ms;
        if self.chance(late) {
            at_ms += self.random.u64(0..=2);
        }
        let random = self.random.u64(..) >> 1;
        let socket = self.socket(index);
        let (newest_ms, newest_place) = socket.newest;
        let at_ms = at_ms.max(newest_ms);
        let place = if at_ms == newest_ms {
            random.max(newest_place + 1)
        } else {
            random
        };
        socket.newest = (at_ms, place);
        let whose = (completion.op, completion.token);
        let serial = self.schedule(at_ms, place, Due::Completion(completion));
        let completions = VecDeque::new();
        let coming = self.coming.entry(whose);
        let coming = coming.or_insert(Coming {
            socket: index,
            completions,
        });
        coming.completions.push_back(serial);
    }
}
