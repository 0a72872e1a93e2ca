//! Scheduled events.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use super::super::{
    super::{Completion, Token},
    client::{ClientId, Segment},
};

/// A scheduled event.
#[derive(Debug)]
pub(super) enum Scheduled {
    Completion(Completion),
    /// The event was cancelled.
    Cancelled,
    /// The server's FIN to a client is sent.
    Finish(ClientId, Token),
    /// A client's connection enters the listener's backlog.
    Connect(ClientId),
    /// A client's segment reaches the server.
    ToServer(ClientId, Segment),
    /// A segment of the server reaches a client.
    ToClient(ClientId, Segment),
}

/// Scheduled events, sorted by time in milliseconds, then by a given order, then by number.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    due: BinaryHeap<Reverse<(u64, u64, u64)>>,
    events: BTreeMap<u64, Scheduled>,
    last_number: u64,
}

impl EventQueue {
    /// Adds an event; returns its number.
    pub(super) fn schedule(&mut self, at_ms: u64, order: u64, event: Scheduled) -> u64 {
        self.last_number += 1;
        self.due.push(Reverse((at_ms, order, self.last_number)));
        self.events.insert(self.last_number, event);
        self.last_number
    }

    /// The time of the next event.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((at_ms, ..))| *at_ms)
    }

    /// Takes the next event that is due at `now_ms`.
    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<Scheduled> {
        if self.next_ms()? > now_ms {
            return None;
        }
        let Reverse((_, _, number)) = self.due.pop()?;
        let event = self.events.remove(&number);
        Some(event.expect("each number is scheduled once"))
    }

    /// Replaces an event by [`Scheduled::Cancelled`]; returns it.
    pub(super) fn cancel(&mut self, number: u64) -> Option<Scheduled> {
        self.events.insert(number, Scheduled::Cancelled)
    }
}
