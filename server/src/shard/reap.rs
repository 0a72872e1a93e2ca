//! Takes the completions of the ring, and dispatches each to its connection.

use tidewheel_codec::Time;

use super::{Shard, visit::Visit};
use crate::{
    Handler,
    ring::{Completion, Op, OpCode, Ring, Token},
};

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Takes all completions. Handles sends first, because they decide which memory is free.
    pub(super) fn reap(&mut self, now: Time) {
        let mut completions = std::mem::take(&mut self.completions);
        while let Some(completion) = self.core.ring.reap() {
            match completion.op {
                OpCode::Send => {
                    self.visit_completed(completion.token, now, |visit| visit.settle(&completion));
                }
                _ => completions.push(completion),
            }
        }
        if std::mem::take(&mut self.is_entered) {
            self.retire_silent(now);
        }
        self.core.read_schedule.begin_turn(completions.len());
        self.handle_settled(now);
        for completion in completions.drain(..) {
            self.complete(completion, now);
        }
        self.completions = completions;
    }

    fn complete(&mut self, completion: Completion, now: Time) {
        let token = completion.token;
        let result = completion.result;
        match completion.op {
            OpCode::Accept => self.accepted(&completion, now),
            OpCode::Receive => {
                self.visit_completed(token, now, |visit| visit.received(completion));
            }
            OpCode::Fill => self.visit_completed(token, now, |visit| visit.filled(&completion)),
            OpCode::Close => self.visit_completed(token, now, |visit| visit.handle_closed()),
            OpCode::Writable => self.visit_completed(token, now, |visit| visit.writable()),
            OpCode::QueryTcpInfo => {
                let taken = self.core.ring.ack_progress(token);
                self.visit_completed(token, now, |visit| visit.handle_tcp_info(result, taken));
            }
            OpCode::QueryUnacked => {
                self.visit_completed(token, now, |visit| visit.handle_unacked(result));
            }
            OpCode::QueryError => {
                self.visit_completed(token, now, |visit| visit.handle_query_error(result));
            }
            OpCode::ShutdownWrite => {
                self.visit(token.slot(), now, |visit| {
                    // After a short send, the slot does not wait for the shutdown that was linked to the send.
                    if visit.connection.generation() == token.generation() {
                        visit.handle_fin_result(result);
                    }
                });
            }
            OpCode::PollWakeup => {
                self.core.ring.waker().clear_calls();
                if !completion.more {
                    self.core.ring.push(Op::PollWakeup, token);
                }
            }
            // It completes only if there is nothing to cancel. The completion of the cancelled operation is the
            // one that counts.
            OpCode::Cancel => {}
            // Every turn takes the jobs of the inbox.
            OpCode::Woken => {}
            OpCode::Wake => self.wake_by_eventfd(token.slot()),
            OpCode::HandOver => self.handed_over(&completion, now),
            OpCode::Arrive => self.arrived(&completion, now),
            OpCode::Send | OpCode::SendAll | OpCode::Connect => {
                unreachable!("sends are taken first, and the others are never submitted")
            }
        }
    }

    /// Visits the connection of a completion. Its slot is not reused before the last completion.
    #[inline]
    fn visit_completed(&mut self, token: Token, now: Time, act: impl FnOnce(&mut Visit<'_, R, H>)) {
        let visited = self.visit(token.slot(), now, |visit| {
            assert_eq!(
                visit.connection.generation(),
                token.generation(),
                "a slot is reused only after its last completion"
            );
            act(visit);
        });
        assert!(
            visited.is_some(),
            "a slot is freed only after its last completion"
        );
    }
}
