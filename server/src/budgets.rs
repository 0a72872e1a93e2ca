//! Checks the tables in docs/budgets.md against the code.

use crate::{CONNECTION_OVERHEAD, Config, Deflate, control, later::TIMERS_MAX, outbox, shard};

/// The rows of a table: the first two columns of each.
fn rows(heading: &str) -> Vec<(String, String)> {
    let document = include_str!("../../docs/budgets.md");
    let section = document.split("\n## ").find(|it| it.starts_with(heading));
    let lines = section.expect("the document has the section").lines();
    let rows = lines.filter_map(|line| line.strip_prefix("| "));
    rows.skip(1)
        .map(|row| {
            let mut columns = row.split(" | ").map(str::to_owned);
            let name = columns.next().expect("a row has a name");
            (name, columns.next().expect("a row has a limit"))
        })
        .collect()
}

fn bytes(bytes: usize) -> String {
    match bytes {
        0x10_0000.. if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => panic!("{bytes} bytes is not a multiple of 1 KiB"),
    }
}

fn assert_rows(heading: &str, expected: &[(&str, String)]) {
    let expected = expected.iter();
    let expected: Vec<_> = expected
        .map(|(name, limit)| ((*name).to_owned(), limit.clone()))
        .collect();
    assert_eq!(rows(heading), expected);
}

#[test]
fn the_table_of_memory_has_the_values_of_the_code() {
    let config = Config::default();
    let short = usize::from(config.receive_buffers) << 10;
    assert_rows(
        "Memory",
        &[
            (
                "send queue (`--max-send-queue`)",
                bytes(config.max_send_queue),
            ),
            (
                "message (`--max-message-size`)",
                bytes(config.max_message_size),
            ),
            (
                "request (`--max-request-size`)",
                bytes(config.request_limits.max_bytes),
            ),
            (
                "received bytes that are not processed yet",
                bytes(config.receive_memory()),
            ),
            (
                "bookkeeping (`CONNECTION_OVERHEAD`)",
                bytes(CONNECTION_OVERHEAD),
            ),
            (
                "published messages (`--fanout-memory`)",
                bytes(config.fanout_memory),
            ),
            (
                "tasks (`Config::max_tasks_per_connection`)",
                config.max_tasks_per_connection.to_string(),
            ),
            ("tasks (`Config::max_tasks`)", config.max_tasks.to_string()),
            ("timers of the application", TIMERS_MAX.to_string()),
            ("receive buffers", bytes(config.receive_memory() + short)),
            (
                "free buffers for long messages",
                bytes(config.protocol().max_pooled_bytes),
            ),
            ("free send queues", bytes(outbox::POOLED_MEMORY_MAX)),
            (
                "compression with context takeover (RFC 7692 7.1.1)",
                bytes(Deflate::default().takeover_budget),
            ),
            (
                "admin connections",
                control::admin::CONNECTIONS_MAX.to_string(),
            ),
            (
                "head of an admin request",
                bytes(control::admin::HEAD_BYTES_MAX),
            ),
            (
                "bodies of admin requests",
                bytes(control::publish::BODIES_BYTES_MAX),
            ),
            (
                "body of an admin request (`--max-message-size`)",
                bytes(config.max_message_size),
            ),
        ],
    );
    let stalled = config.max_send_queue + config.stall_overhead();
    assert_eq!(format!("{:.1}", stalled as f64 / f64::from(1 << 20)), "6.1");
}

#[test]
fn the_table_of_work_has_the_values_of_the_code() {
    let turn = shard::core::read_quota::TURN;
    let connection = shard::core::read_quota::CONNECTION;
    let expected = [
        ("frames read", turn.frames().to_string()),
        ("bytes of messages read", bytes(turn.bytes())),
        ("work of compression", bytes(turn.deflate_work())),
        (
            "frames read from one connection in a row, while others wait",
            connection.frames().to_string(),
        ),
        (
            "bytes of messages read from one connection in a row, while others wait",
            bytes(connection.bytes()),
        ),
        (
            "work of compression for one connection in a row, while others wait",
            bytes(connection.deflate_work()),
        ),
        (
            "deliveries of messages to topics with more than 8,192 subscribers",
            shard::fan_out::DELIVERIES_PER_TURN.to_string(),
        ),
        (
            "deliveries of messages to topics with 8,192 subscribers or fewer",
            (4 * shard::fan_out::DELIVERIES_PER_TURN).to_string(),
        ),
        (
            "subscribers whose waiting messages are sent",
            shard::fan_out::FANNED_OUT_PER_TURN.to_string(),
        ),
        (
            "bytes of published messages sent",
            bytes(shard::fan_out::FANNED_OUT_BYTES_PER_TURN),
        ),
        (
            "jobs of other threads",
            shard::jobs::JOBS_PER_TURN.to_string(),
        ),
        (
            "topics whose first subscriber has come or whose last one has gone, reported to the handler",
            shard::presence::TOPICS_REPORTED_PER_TURN.to_string(),
        ),
        (
            "expired deadlines",
            shard::core::expiries_per_turn(Config::default().receive_buffers).to_string(),
        ),
        (
            "entries of the timer wheel",
            shard::core::ENTRIES_PER_TURN.to_string(),
        ),
    ];
    assert_rows("Work", &expected);
}
