//! Jobs of other threads: messages to publish or to send, and connections to close.

use std::collections::VecDeque;

use tidewheel_codec::{CloseCode, Time};

use super::{
    Shard,
    core::{DrainProgress, Lifecycle},
    fan_out::DELIVERIES_PER_TURN,
};
use crate::{ConnectionId, Handler, call::Call, command::Command, fanout::Job, ring::Ring};

/// Jobs in one turn, at most.
pub(crate) const JOBS_PER_TURN: usize = 1024;

/// Jobs for which an empty list keeps memory, at most.
const JOBS_KEPT_MAX: usize = 1 << 10;

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Executes the commands and jobs of other threads, within the limits of a turn.
    pub(super) fn do_jobs(&mut self, now: Time) {
        for command in self.core.fanout.commands() {
            self.handle_command(command, now);
        }
        let jobs = &mut self.jobs;
        self.core.fanout.take_jobs(|job| jobs.push_back(job));
        let mut deliveries = 0;
        for _ in 0..JOBS_PER_TURN {
            if deliveries >= DELIVERIES_PER_TURN as u64 {
                break;
            }
            let Some(job) = self.jobs.pop_front() else {
                break;
            };
            self.core.fanout.note_read(&job);
            match job {
                Job::Publish(message) => deliveries += self.core.fanout.dispatch_remote(message),
                Job::Send {
                    id,
                    is_text,
                    payload,
                } => self.visit_id(id, now, |conn| {
                    // The policy for slow consumers decides what happens to the message.
                    let _ = match std::str::from_utf8(&payload) {
                        Ok(text) if is_text => conn.send(text),
                        _ => conn.send(&*payload),
                    };
                }),
                Job::Close { id, code, reason } => self.visit_id(id, now, |conn| {
                    if let Err(error) = conn.close(code, &reason) {
                        tracing::warn!(target: "tidewheel::shard::inbox", connection = %id, %error, "cannot close the connection with this code and reason");
                    }
                }),
                Job::Call { id, call } => self.call(id, Call::sent(call), now),
            }
        }
        if self.jobs.is_empty() && self.jobs.capacity() > JOBS_KEPT_MAX {
            self.jobs = VecDeque::new();
        }
    }

    fn handle_command(&mut self, command: Command, now: Time) {
        if command == Command::DrainForRestart {
            self.core.settings.drain.code = CloseCode::SERVICE_RESTART;
        }
        let timeout = self.core.fanout.shared.drain_timeout();
        match (command, self.core.lifecycle) {
            (Command::Drain | Command::DrainForRestart, Lifecycle::Serving) => {
                tracing::debug!(
                    target: "tidewheel::shard",
                    shard = self.core.settings.index,
                    connections = self.connections.len(),
                    "the shard drains"
                );
                self.core.lifecycle = Lifecycle::Draining(DrainProgress::new(
                    now,
                    timeout.unwrap_or(self.core.settings.close_timeout),
                    self.connections.len(),
                ));
                self.acceptor.stop(&mut self.core.ring);
            }
            (Command::Drain | Command::DrainForRestart, Lifecycle::Draining(mut progress)) => {
                if let Some(timeout) = timeout {
                    progress.end_by(now + timeout);
                    self.core.lifecycle = Lifecycle::Draining(progress);
                }
            }
            (Command::Drain | Command::DrainForRestart, Lifecycle::Stopped) => {}
            (Command::Stop, _) => self.core.lifecycle = Lifecycle::Stopped,
        }
    }

    /// Calls `act` with the connection of this id, if it still exists.
    fn visit_id(&mut self, id: ConnectionId, now: Time, act: impl FnOnce(&mut crate::Conn<'_, H>)) {
        self.visit(id.slot, now, |visit| {
            if visit.connection.generation() == id.generation {
                visit.with_conn(|_, conn| act(conn));
                visit.poll_protocol();
            }
        });
    }
}
