//! The memory cost of a client that sends until the server stops reading, and reads nothing itself.

use tidewheel::Config;

/// Flags of a server with a short send queue and short messages.
pub(crate) const NON_READER_FLAGS: &str =
    "--shards 1 --max-send-queue 64KiB --max-message-size 48KiB";

/// Tolerance in bytes for pages that the allocator keeps; they differ from run to run.
pub(crate) const ALLOCATOR_NOISE_BYTES: u64 = 1 << 20;

/// Limit in bytes of the assembly buffers that a shard pools (`max_pooled_bytes` of the codec).
pub(crate) const POOLED_BYTES_MAX: u64 = 4 << 20;

/// R12: returns the limit in bytes of what this client costs a server with [`NON_READER_FLAGS`].
pub(crate) fn non_reader_cost_bytes_max() -> u64 {
    let mut config = Config::default();
    config.max_send_queue = 64 << 10;
    config.max_message_size = 48 << 10;
    (config.max_send_queue + config.stall_overhead()) as u64
}
