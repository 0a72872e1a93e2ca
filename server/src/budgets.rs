//! Checks the tables in docs/budgets.md against the code.

use crate::{CONNECTION_OVERHEAD, Config, Deflate, control, outbox, shard};

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
            ("`max_send_queue`", bytes(config.max_send_queue)),
            ("`max_message_size`", bytes(config.max_message_size)),
            (
                "`request_limits.max_bytes`",
                bytes(config.request_limits.max_bytes),
            ),
            ("received and unread", bytes(config.receive_memory())),
            ("`CONNECTION_OVERHEAD`", bytes(CONNECTION_OVERHEAD)),
            ("`fanout_memory`", bytes(config.fanout_memory)),
            ("receive buffers", bytes(config.receive_memory() + short)),
            (
                "pooled assembly buffers",
                bytes(config.protocol().max_pooled_bytes),
            ),
            ("pooled send queues", bytes(outbox::POOLED_MEMORY_MAX)),
            (
                "`takeover_budget`",
                bytes(Deflate::default().takeover_budget),
            ),
            (
                "admin connections",
                control::admin::CONNECTIONS_MAX.to_string(),
            ),
            ("admin request head", bytes(control::admin::HEAD_BYTES_MAX)),
            ("admin bodies", bytes(control::publish::BODIES_BYTES_MAX)),
            ("admin body", bytes(config.max_message_size)),
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
            "frames read of one connection at a time, if others wait",
            connection.frames().to_string(),
        ),
        (
            "bytes of messages read of one connection at a time, if others wait",
            bytes(connection.bytes()),
        ),
        (
            "work of compression of one connection at a time, if others wait",
            bytes(connection.deflate_work()),
        ),
        (
            "deliveries to subscribers of large topics",
            shard::fan_out::DELIVERIES_PER_TURN.to_string(),
        ),
        (
            "connections that published messages are sent to",
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
