//! Settings of a simulation.

/// Settings of a simulated kernel and network.
#[derive(Clone, Copy, Debug)]
pub struct Simulation {
    /// Seed of all random decisions.
    pub seed: u64,
    /// Size of the direct descriptor table.
    pub sockets: u32,
    /// Number of receive buffers.
    pub buffers: u16,
    /// Size of each receive buffer in bytes.
    pub buffer_size: u32,
    /// Completion queue entries, at least 1. The kernel keeps completions that do not fit, moves them to the
    /// queue when it is entered, and ends the multishot operation that they belong to.
    pub completions: usize,
    /// Bytes that a socket takes before its peer has read them.
    pub send_buffer: usize,
    /// Maximum latency of a segment in milliseconds.
    pub latency_ms_max: u64,
    /// Duration of each operation on submission in milliseconds. Operations run one after the other; bytes
    /// that arrive meanwhile complete their receives after the whole submission.
    pub operation_ms: u64,
    /// Probabilities of faults.
    pub faults: Faults,
}

impl Default for Simulation {
    fn default() -> Self {
        Self {
            seed: 1,
            sockets: 1024,
            buffers: 16,
            buffer_size: 4096,
            completions: 8192,
            send_buffer: 64 * 1024,
            latency_ms_max: 3,
            operation_ms: 0,
            faults: Faults::default(),
        }
    }
}

/// Probabilities of faults, each from 0 (never) to 1 (always).
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// A send takes fewer bytes than there is room for.
    pub short_send: f64,
    /// A receive ends with `ENOBUFS` although a buffer is free.
    pub no_buffers: f64,
    /// A multishot receive ends with a success.
    pub multishot_end: f64,
    /// A completion comes up to two milliseconds late.
    pub late: f64,
    /// A receive gets fewer bytes than have arrived.
    pub small_pieces: f64,
    /// The submission queue is full, and is submitted before the shard enters the ring.
    pub full_queue: f64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            short_send: 0.05,
            no_buffers: 0.02,
            multishot_end: 0.02,
            late: 0.2,
            small_pieces: 0.1,
            full_queue: 0.01,
        }
    }
}

impl Faults {
    /// No faults.
    pub const NONE: Self = Self {
        short_send: 0.0,
        no_buffers: 0.0,
        multishot_end: 0.0,
        late: 0.0,
        small_pieces: 0.0,
        full_queue: 0.0,
    };
}
