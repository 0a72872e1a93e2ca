//! Requests that the application answers later.

use super::visit::Visit;
use crate::{
    Handler, Response, Verdict,
    connection::{Phase, Undecided, WaitReason},
    contain::{self, Callback, Panic},
    later::{Output, TaskFuture},
    ring::Ring,
    stats::Rejected,
};

impl<R: Ring, H: Handler> Visit<'_, R, H> {
    /// Starts the task that returns the answer to a request. Returns whether it was started.
    pub(super) fn decide_later(&mut self, request: Undecided, task: TaskFuture) -> bool {
        if self.core.later.tasks.is_shard_full() {
            // The destructor of the future may panic.
            if let Err(panic) = contain::catch(|| drop(task)) {
                self.note_panic(Callback::Task, panic);
            }
            let response = Response::busy("the server is busy");
            self.refuse(Rejected::Undecided, &response);
            return false;
        }
        let Phase::Handshake { deadline, .. } = self.connection.phase else {
            unreachable!("a request has just arrived");
        };
        let request = Box::new(request);
        self.connection
            .advance(Phase::Undecided { request, deadline });
        self.core.later.tasks.start_answer(self.slot, task);
        true
    }

    /// Answers the request, if it is not answered yet.
    pub(super) fn decide(&mut self, answer: Result<Output, Panic>) {
        let Phase::Undecided { request, .. } = &mut self.connection.phase else {
            return;
        };
        let request = std::mem::replace(&mut **request, Undecided::Http { is_for_head: false });
        match (request, answer) {
            (_, Err(panic)) => {
                self.note_panic(Callback::Task, panic);
                self.refuse(Rejected::Panic, &Response::internal_server_error());
            }
            (Undecided::Http { is_for_head }, Ok(Output::Response(response))) => {
                self.respond(&response.for_head(is_for_head));
            }
            (
                Undecided::Upgrade {
                    accept,
                    protocols,
                    extensions,
                },
                Ok(Output::Verdict(verdict)),
            ) => {
                let Ok(verdict) = verdict.downcast::<Verdict<H::State>>() else {
                    unreachable!("the verdict is of the handler of this shard");
                };
                let protocols = protocols.iter().map(String::as_str);
                let extensions = extensions.iter().map(String::as_str);
                if self.execute(*verdict, accept, (protocols, extensions)) {
                    self.read_early_bytes();
                }
            }
            (Undecided::Http { .. } | Undecided::Upgrade { .. }, Ok(_)) => {
                unreachable!("the task was started for this request")
            }
        }
        self.poll_protocol();
    }

    /// Schedules the bytes that have arrived before the answer for reading.
    fn read_early_bytes(&mut self) {
        match self.connection.has_unread() {
            true => self.wait_for(WaitReason::TurnQuota),
            false => self.connection.reading.resume(),
        }
    }
}
