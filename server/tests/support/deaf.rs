//! What a client may cost that sends all it can and reads nothing.

use tidewheel::Config;

/// A server with a short queue, for messages that are not much longer than those of the tests.
pub(crate) const DEAF: &str = "--shards 1 --max-send-queue 64KiB --max-message-size 48KiB";

/// What all of a server's memory may differ by from run to run: pages that the allocator keeps
/// between those that it gives out.
pub(crate) const ALLOCATOR_NOISE: u64 = 1 << 20;

/// What a shard keeps of buffers in which messages were assembled, for all its connections
/// (`max_pooled_bytes` of the codec).
pub(crate) const POOLED: u64 = 4 << 20;

/// R12: bytes that such a client costs a server started with [`DEAF`], at most.
pub(crate) fn cost_of_the_deaf() -> u64 {
    let config = Config {
        max_send_queue: 64 << 10,
        max_message_size: 48 << 10,
        ..Config::default()
    };
    (config.max_send_queue + config.stall_overhead()) as u64
}
