//! The receives of all connections of a shard.

use std::{collections::VecDeque, time::Duration};

use tidewheel_codec::Time;

use crate::Config;

/// Receive buffers that the rest of a message would fill from which it is received into the message's own buffer,
/// without a copy.
const FILL_BUFFERS_MIN: u64 = 16;

/// Time after the buffers ran out in which a receive of a busy connection takes one buffer. Without this limit
/// the busy connections would take all buffers again.
const SCARCE_TIME: Duration = Duration::from_secs(1);

/// State of the receives of all connections.
pub(in crate::shard) struct Receives {
    /// Connections whose receive waits for a buffer: slot and generation.
    starved: VecDeque<(u32, u32)>,
    /// Time until which a receive of a busy connection takes one buffer.
    scarce_until: Time,
    /// Number of receive buffers, including those that the kernel holds.
    buffers: usize,
    /// Bytes of all receive buffers.
    memory: usize,
    /// Bytes left of a message from which they are received into the message's own buffer.
    fill_bytes_min: u64,
}

impl Receives {
    pub(in crate::shard) fn new(config: &Config, now: Time) -> Self {
        Self {
            starved: VecDeque::new(),
            scarce_until: now,
            buffers: usize::from(config.receive_buffers),
            memory: config.receive_memory(),
            fill_bytes_min: FILL_BUFFERS_MIN * u64::from(config.receive_buffer_size),
        }
    }

    /// Number of receive buffers, including those that the kernel holds.
    pub(in crate::shard) fn buffers(&self) -> usize {
        self.buffers
    }

    /// Bytes of all receive buffers.
    pub(in crate::shard) fn memory(&self) -> usize {
        self.memory
    }

    /// Bytes left of a message from which they are received into the message's own buffer.
    pub(in crate::shard) fn fill_bytes_min(&self) -> u64 {
        self.fill_bytes_min
    }

    /// Returns whether the buffers ran out recently.
    pub(in crate::shard) fn is_scarce(&self, now: Time) -> bool {
        now < self.scarce_until
    }

    /// Lists a connection whose receive found no buffer at `now`.
    pub(in crate::shard) fn list_starved(&mut self, slot: u32, generation: u32, now: Time) {
        self.scarce_until = now + SCARCE_TIME;
        self.starved.push_back((slot, generation));
    }

    /// Takes the connection that has waited longest for a buffer: slot and generation.
    pub(in crate::shard) fn next_starved(&mut self) -> Option<(u32, u32)> {
        self.starved.pop_front()
    }
}
