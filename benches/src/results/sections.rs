//! Sections of `benches/RESULTS.md`, in their order.

/// A section: a title, and one table with the runs of some benchmarks.
pub(super) struct Section {
    pub(super) title: &'static str,
    /// Names of the benchmarks in the table.
    pub(super) benchmarks: &'static [&'static str],
    /// Meaning of the rows and columns.
    pub(super) note: &'static str,
}

pub(super) const SECTIONS: &[Section] = &[
    Section {
        title: "Beside other servers",
        benchmarks: &["echo", "connect", "idle", "close-storm"],
        note: "CPU of the server's threads, the kernel's work included, in us for each message, handshake or close; \
               10,000 handshakes, 15,000 idle connections, 10,000 closes at the same moment, 1,000 clients that fall \
               silent. *echo-loop* is read(2), unmasking and write(2), and nothing else.",
    },
    Section {
        title: "Fan-out",
        benchmarks: &["fanout"],
        note: "One message of 64 bytes to 5,001 connections; us are CPU for each delivery. *send-loop* is send(2) for \
               each subscriber, and nothing else.",
    },
    Section {
        title: "Bun and the load generator",
        benchmarks: &["bun"],
        note: "CPU in us for each message or delivery, of the server and of the load generator beside Tidewheel. Bun \
               1.4.5 is uWebSockets.",
    },
    Section {
        title: "Echo during fan-out",
        benchmarks: &["echo-during-fanout"],
        note: "p99 of the round trip of an echo, in ms, without and with fan-outs; 200 echoes a second, all shards on one core.",
    },
    Section {
        title: "Tasks",
        benchmarks: &["tasks"],
        note: "CPU in us for each message of a server with a task for each connection, which never ends, and of one \
               without tasks.",
    },
    Section {
        title: "Echo during authentication",
        benchmarks: &["authentication"],
        note: "p99 of the round trip of an echo, in ms, 200 times a second, while other clients are authenticated in \
               50 ms each. *At once*: 1,000 clients, and the next 1,000 as soon as they are done.",
    },
    Section {
        title: "Two shards on two cores",
        benchmarks: &["shards"],
        note: "Deliveries a second of one shard and of two, each on its core. *send-loops* are threads that do nothing but send(2).",
    },
    Section {
        title: "End of a connection",
        benchmarks: &["loadgen-close-storm", "lifecycle"],
        note: "Close storms of 10,000 connections, and the rules of [docs/rules.md](../docs/rules.md), without \
               optimization. P = T = C = H = 1 s unless a row names another.",
    },
    Section {
        title: "Overload",
        benchmarks: &["overload"],
        note: "p99 of another client's echo, and resident memory. The bounds are 10 ms for floods, 50 ms for the \
               second row.",
    },
    Section {
        title: "A million connections",
        benchmarks: &["scale"],
        note: "56 shards on one core.",
    },
    Section {
        title: "Ten million connections, simulated",
        benchmarks: &["c10m"],
        note: "Memory in bytes of user space for each connection, which is exact; CPU in us for each connection, on a \
               busy machine.",
    },
    Section {
        title: "Codec",
        benchmarks: &["codec"],
        note: "A whole masked text frame, in ns.",
    },
    Section {
        title: "Timer wheel",
        benchmarks: &["timers"],
        note: "Best run, in ns beyond the cost of touching the record.",
    },
    Section {
        title: "A turn of a shard",
        benchmarks: &["turn"],
        note: "Instructions for each message or delivery, under callgrind.",
    },
    Section {
        title: "A long link",
        benchmarks: &["long-link"],
        note: "Mbit/s of payload and headers over 100 Mbit/s with a round trip of 100 ms; as root.",
    },
];
