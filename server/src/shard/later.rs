//! Calls closures of the application: of other threads, of timers, and of tasks.

#[cfg(all(feature = "tasks", feature = "sim"))]
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

use tidewheel_codec::Time;

use super::{Shard, visit::Visit};
use crate::{ConnectionId, Handler, call::Call, contain::Callback, ring::Ring};

#[cfg(feature = "tasks")]
use crate::{
    connection::Phase,
    contain::{self, Panic},
    later::{Finished, Output},
};

/// Outputs of tasks in one turn, at most. An output may open a connection, which takes several times as long as a message.
#[cfg(feature = "tasks")]
const OUTPUTS_PER_TURN: usize = 32;

/// Whether the tasks of a shard were woken since they were polled.
#[cfg(all(feature = "tasks", feature = "sim"))]
#[derive(Default)]
struct Woken(AtomicBool);

#[cfg(all(feature = "tasks", feature = "sim"))]
impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Calls a closure of another thread with the connection of this id, if it is still open.
    pub(super) fn call(&mut self, id: ConnectionId, call: Call, now: Time) {
        self.visit(id.slot, now, |visit| {
            if visit.connection.generation() == id.generation {
                visit.resume(Callback::Call, call);
                visit.poll_protocol();
            }
        });
    }

    /// Polls the tasks that are ready, with no runtime. Returns whether the next turn follows at once: an output waits,
    /// or a task is still ready.
    #[cfg(all(feature = "tasks", feature = "sim"))]
    pub fn poll_tasks(&self) -> bool {
        let (tasks, finished) = self.tasks();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let never_done = pin!(tasks.run_until(std::future::pending::<()>()));
        let _ = never_done.poll(&mut Context::from_waker(&waker));
        finished.has_any() || woken.0.load(Ordering::Relaxed)
    }

    /// Drops the output of a task whose connection has ended.
    #[cfg(feature = "tasks")]
    fn drop_output(&self, output: Result<Output, Panic>) {
        let dropped = output.and_then(|output| contain::catch(|| drop(output)));
        if let Err(panic) = dropped {
            self.core.note_panic(None, Callback::Task, panic);
        }
    }

    /// Gives the outputs of tasks to their connections, within the limit of a turn. Returns whether none is left.
    #[cfg(feature = "tasks")]
    pub(super) fn finish_tasks(&mut self, now: Time) -> bool {
        self.core.later.tasks.drop_overdue(now);
        for _ in 0..OUTPUTS_PER_TURN {
            let Some(Finished { slot, output }) = self.core.later.tasks.next_finished() else {
                return true;
            };
            match slot {
                Some(slot) => _ = self.visit(slot, now, |visit| visit.finish_task(output)),
                None => self.drop_output(output),
            }
        }
        false
    }
}

impl<R: Ring, H: Handler> Visit<'_, R, H> {
    /// Handles the output of a task.
    #[cfg(feature = "tasks")]
    fn finish_task(&mut self, output: Result<Output, Panic>) {
        if let Phase::Undecided { .. } = self.connection.phase {
            return self.decide(output);
        }
        match output {
            Ok(Output::Call(call)) => self.resume(Callback::Task, call),
            Ok(Output::Verdict(_) | Output::Response(_)) => {}
            Err(panic) => self.fail_after_panic(Callback::Task, panic),
        }
        self.poll_protocol();
    }

    /// Calls a closure with the connection, if it is open.
    fn resume(&mut self, callback: Callback, call: Call) {
        if !self.connection.is_open() {
            return;
        }
        let id = self.id();
        self.call(callback, |handler, conn| {
            if handler.resume(conn, call).is_err() {
                tracing::warn!(target: "tidewheel::shard::inbox", connection = %id, "a closure was dropped: it is for another handler than that of the connection");
            }
        });
    }

    /// Calls the closures of the timers that have expired.
    pub(super) fn run_timers(&mut self) {
        while self.connection.is_open()
            && let Some(call) = self.core.later.timers.take_expired(self.slot, self.now)
        {
            self.resume(Callback::Timer, call);
        }
    }
}
