//! Measurements: time, resources, latencies and figures.

pub(crate) mod clock;
pub(crate) mod figures;
pub(crate) mod hiccup;
pub(crate) mod latency;
pub(crate) mod latency_names;
pub(crate) mod memory;
pub(crate) mod plan;
pub(crate) mod socket_table;
pub(crate) mod syscalls;
pub(crate) mod usage;
