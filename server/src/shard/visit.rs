//! A connection that was looked up once, with the state of its shard.

use std::marker::PhantomData;

use tidewheel_codec::{Cause, CloseCode, Time};

use super::core::Core;
use crate::{
    Conn, ConnectionId, Handler, Link, PanicPolicy,
    connection::{Connection, Phase},
    contain::{self, Callback},
    outbox::{Lane, Queue},
    ring::{Op, Ring},
};

/// A connection, and the state of its shard.
pub(super) struct Visit<'a, R: Ring, H: Handler> {
    pub(super) slot: u32,
    pub(super) now: Time,
    pub(super) connection: &'a mut Connection<H::State>,
    pub(super) core: &'a mut Core<R, H>,
}

impl<R: Ring, H: Handler> Visit<'_, R, H> {
    /// Submits an operation on this connection.
    pub(super) fn push(&mut self, op: Op) {
        let token = self.connection.token(self.slot);
        self.core.ring.push(op, token);
    }

    /// The send queue of the connection, taken from the pool if it has none.
    pub(super) fn queue(&mut self) -> &mut Queue {
        self.connection.queue_mut(&mut self.core.sends.pool)
    }

    pub(super) fn id(&self) -> ConnectionId {
        ConnectionId {
            shard: self.core.settings.index,
            generation: self.connection.generation(),
            slot: self.slot,
        }
    }

    /// Lists the connection for the flush at the end of the turn.
    pub(super) fn mark_dirty(&mut self) {
        if self.connection.mark_dirty() {
            self.core.sends.dirty.push(self.slot);
        }
    }

    /// Calls `callback` with the application and the connection, if it is open.
    pub(super) fn with_conn<T>(
        &mut self,
        callback: impl FnOnce(&mut H, &mut Conn<'_, H>) -> T,
    ) -> Option<T> {
        let id = self.id();
        let Connection { phase, queue, .. } = &mut *self.connection;
        let Phase::Open { protocol, state } = phase else {
            return None;
        };
        let core = &mut *self.core;
        let link = Link {
            id,
            now: self.now,
            protocol,
            queue: queue.get_or_insert_with(|| core.sends.pool.take()),
            endpoint: &mut core.endpoint,
            fanout: &mut core.fanout,
            later: &mut core.later,
            limits: core.sends.limits,
            handler: PhantomData,
        };
        let mut conn = Conn::new(link, state);
        Some(callback(&mut core.handler, &mut conn))
    }

    /// Calls the application with the connection, if it is open. If the application panics, the connection
    /// fails.
    pub(super) fn call(&mut self, callback: Callback, call: impl FnOnce(&mut H, &mut Conn<'_, H>)) {
        self.call_without_span(callback, |handler, conn| conn.within_span(handler, call));
    }

    /// Like [`call`](Self::call), but enters no span.
    pub(super) fn call_without_span(
        &mut self,
        callback: Callback,
        call: impl FnOnce(&mut H, &mut Conn<'_, H>),
    ) {
        let called = contain::catch(|| {
            self.with_conn(call);
        });
        if let Err(panic) = called {
            self.fail_after_panic(callback, panic);
        }
    }

    /// Fails the connection with 1011 after a panic of the application. The Close is sent behind the queued
    /// messages.
    pub(super) fn fail_after_panic(&mut self, callback: Callback, panic: contain::Panic) {
        self.note_panic(callback, panic);
        let Connection { phase, queue, .. } = &mut *self.connection;
        if let Phase::Open { protocol, .. } = phase {
            let pool = &mut self.core.sends.pool;
            let queue = queue.get_or_insert_with(|| pool.take());
            let endpoint = &mut self.core.endpoint;
            let (code, cause) = (CloseCode::INTERNAL_ERROR, Cause::HandlerPanic);
            queue.write(Lane::Control, |out| {
                protocol.fail(endpoint, code, cause, out, self.now);
            });
        }
    }

    /// Logs and counts a panic of the application. Resumes the panic if it has to stop the server.
    pub(super) fn note_panic(&self, callback: Callback, panic: contain::Panic) {
        self.core.note_panic(Some(self.id()), callback, panic);
    }
}

impl<R: Ring, H: Handler> Core<R, H> {
    /// Logs and counts a panic of the application. Resumes the panic if it has to stop the server.
    pub(super) fn note_panic(
        &self,
        connection: Option<ConnectionId>,
        callback: Callback,
        panic: contain::Panic,
    ) {
        self.stats.handler_panics.add(1);
        tracing::error!(
            connection = connection.map(tracing::field::display),
            callback = callback.as_str(),
            location = panic.location(),
            message = panic.message(),
            "the handler panicked"
        );
        if self.settings.panic == PanicPolicy::StopServer {
            panic.resume();
        }
    }
}
