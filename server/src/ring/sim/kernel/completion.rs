//! Completing operations.

use super::{
    super::{
        super::{Completion, OpCode, Token},
        socket::PeerState,
        trace::EventKind,
    },
    Kernel, PendingReceive, Scheduled,
};

impl Kernel {
    /// Puts a completion into the queue.
    pub(super) fn post(&mut self, mut completion: Completion) {
        let key = (completion.op, completion.token);
        if let Some(pending) = self.pending_receives.get_mut(&key) {
            pending.completions.pop_front();
            if !completion.more {
                self.pending_receives.remove(&key);
            }
        }
        if !self.completions.has_room() {
            self.record(EventKind::Overflowed);
            if std::mem::take(&mut completion.more) {
                self.end_multishot(completion.op, completion.token);
            }
        }
        self.record(EventKind::Completed {
            op: completion.op,
            token: completion.token,
            result: completion.result,
            more: completion.more,
        });
        self.completions.push(completion);
    }

    /// Puts the only or last completion of an operation into the queue.
    pub(super) fn post_result(&mut self, op: OpCode, token: Token, result: i32) {
        self.post(Completion::last(op, token, result));
    }

    /// Ends a multishot operation whose completion does not fit (since Linux 6.6). Its later completions
    /// are withdrawn.
    fn end_multishot(&mut self, op: OpCode, token: Token) {
        match op {
            OpCode::Receive => self.withdraw_receives(token),
            op => panic!("{op:?} is not multishot"),
        }
    }

    /// Cancels the scheduled completions of a receive, and returns their bytes to the socket.
    fn withdraw_receives(&mut self, token: Token) {
        let pending = self.pending_receives.remove(&(OpCode::Receive, token));
        let Some(pending) = pending else {
            return;
        };
        let mut bytes = Vec::new();
        for number in pending.completions {
            if let Some(Scheduled::Completion(completion)) = self.events.cancel(number)
                && let Some(buffer) = completion.buffer
            {
                bytes.extend_from_slice(&buffer);
            }
        }
        let socket = self.sockets[pending.socket as usize].as_mut();
        let Some(socket) = socket.filter(|socket| socket.received_by == Some(token)) else {
            return;
        };
        socket.receive = None;
        if socket.peer != PeerState::Reset {
            bytes.extend(socket.inbound.drain(..));
            socket.inbound = bytes.into();
        }
    }

    /// Schedules the only completion of an operation, in random order among those of its time.
    pub(super) fn complete(&mut self, op: OpCode, token: Token, result: i32) {
        let at_ms = self.now_ms + self.random_delay_ms();
        let order = self.random_order();
        let completion = Completion::last(op, token, result);
        self.events
            .schedule(at_ms, order, Scheduled::Completion(completion));
    }

    /// Schedules a completion of a receive. The completions of one socket keep their order.
    pub(super) fn complete_receive(&mut self, index: u32, completion: Completion) {
        let at_ms = self.now_ms + self.random_delay_ms();
        let random_order = self.random_order();
        let socket = self.socket(index);
        let (newest_ms, newest_order) = socket.newest_receive;
        let at_ms = at_ms.max(newest_ms);
        let order = if at_ms == newest_ms {
            random_order.max(newest_order + 1)
        } else {
            random_order
        };
        socket.newest_receive = (at_ms, order);
        let key = (completion.op, completion.token);
        let number = self
            .events
            .schedule(at_ms, order, Scheduled::Completion(completion));
        let pending = self.pending_receives.entry(key);
        let pending = pending.or_insert_with(|| PendingReceive::new(index));
        pending.completions.push_back(number);
    }
}
