//! Goals, and the figures that miss them.

use super::{Run, table};

/// An upper bound of a figure.
struct Goal {
    name: &'static str,
    bound: f64,
    benchmark: &'static str,
    /// Places of the figure; runs may have it in different rows.
    values: &'static [Value],
    /// The same figure of a server that does nothing beside the system calls.
    kernel: Option<Value>,
}

/// A figure of a run, or the ratio of two.
struct Value {
    row: &'static str,
    column: &'static str,
    /// Row and column of the divisor.
    over: Option<(&'static str, &'static str)>,
}

const fn ratio(row: &'static str, column: &'static str, over: &'static str) -> Value {
    Value {
        row,
        column,
        over: Some((row, over)),
    }
}

const fn figure(row: &'static str, column: &'static str) -> Value {
    Value {
        row,
        column,
        over: None,
    }
}

macro_rules! echo_goal {
    ($row:literal, $bound:literal) => {
        Goal {
            name: concat!($row, ": CPU / fastwebsockets"),
            bound: $bound,
            benchmark: "echo",
            values: &[ratio($row, "tidewheel", "fastwebsockets")],
            kernel: Some(ratio($row, "echo-loop", "fastwebsockets")),
        }
    };
}

const GOALS: &[Goal] = &[
    echo_goal!("echo, 20 B x 200", 0.75),
    echo_goal!("echo, 20 B x 200, 16 in flight", 0.10),
    echo_goal!("echo, 1 KiB x 200", 0.85),
    echo_goal!("echo, 16 KiB x 200", 0.50),
    echo_goal!("echo, 1 MiB x 8", 0.85),
    Goal {
        name: "handshake: CPU / fastwebsockets",
        bound: 0.5,
        benchmark: "connect",
        values: &[ratio("handshake, us", "tidewheel", "fastwebsockets")],
        kernel: None,
    },
    Goal {
        name: "echo with tasks, 20 B x 200: CPU / without tasks",
        bound: 1.05,
        benchmark: "tasks",
        values: &[ratio("echo, 20 B x 200", "tidewheel-tasks", "tidewheel")],
        kernel: None,
    },
    Goal {
        name: "memory of an idle connection, bytes",
        bound: 160.0,
        benchmark: "idle",
        values: &[figure("memory, bytes", "tidewheel")],
        kernel: None,
    },
    Goal {
        name: "fan-out, 1 in flight: CPU / send-loop",
        bound: 1.0,
        benchmark: "fanout",
        values: &[
            ratio("1 in flight, us", "tidewheel", "send-loop"),
            figure("1 in flight / send-loop", "tidewheel"),
        ],
        kernel: None,
    },
    Goal {
        name: "fan-out, 16 in flight: CPU / tokio-tungstenite",
        bound: 0.045,
        benchmark: "fanout",
        values: &[
            ratio("16 in flight, us", "tidewheel", "tokio-tungstenite"),
            figure("16 in flight / tokio-tungstenite", "tidewheel"),
        ],
        kernel: None,
    },
    Goal {
        name: "fan-out, 16 in flight: CPU, us",
        bound: 0.4,
        benchmark: "fanout",
        values: &[figure("16 in flight, us", "tidewheel")],
        kernel: None,
    },
    Goal {
        name: "load generator, 20 B: CPU / tidewheel",
        bound: 0.67,
        benchmark: "bun",
        values: &[ratio("echo, 20 B x 200", "load generator", "tidewheel")],
        kernel: None,
    },
    Goal {
        name: "load generator, 1 MiB: CPU / tidewheel",
        bound: 0.67,
        benchmark: "bun",
        values: &[ratio("echo, 1 MiB x 8", "load generator", "tidewheel")],
        kernel: None,
    },
    Goal {
        name: "timer wheel, insert at 1,000,000 timers, ns",
        bound: 32.0,
        benchmark: "timers",
        values: &[figure("tidewheel, 1000000 timers", "insert")],
        kernel: None,
    },
    Goal {
        name: "timer wheel, insert at 10,000,000 timers, ns",
        bound: 32.0,
        benchmark: "timers",
        values: &[figure("tidewheel, 10000000 timers", "insert")],
        kernel: None,
    },
    Goal {
        name: "turn with one message: instructions / commit 560427d",
        bound: 1.02,
        benchmark: "turn",
        values: &[figure("echo, 1 connection x 1 message", "/ 560427d")],
        kernel: None,
    },
    Goal {
        name: "turn with a fan-out: instructions / commit 560427d",
        bound: 1.02,
        benchmark: "turn",
        values: &[figure("fan-out, 1 message to 100", "/ 560427d")],
        kernel: None,
    },
];

impl Value {
    fn of(&self, run: &Run) -> Option<f64> {
        let value = run.value(self.row, self.column)?;
        match self.over {
            Some((row, column)) => Some(value / run.value(row, column)?),
            None => Some(value),
        }
    }
}

impl Goal {
    /// Returns the value of each machine, of its last run that has the figure.
    fn measured<'a>(&self, runs: &'a [Run], values: &[&Value]) -> Vec<(&'a str, f64)> {
        let mut measured: Vec<(&str, f64)> = Vec::new();
        for run in runs.iter().filter(|run| run.benchmark == self.benchmark) {
            let machine = run.machine.as_deref().unwrap_or_default();
            if let Some(value) = values.iter().find_map(|value| value.of(run)) {
                measured.retain(|(known, _)| *known != machine);
                measured.push((machine, value));
            }
        }
        measured
    }
}

/// Returns the table of the goals that a machine misses, and the names of the other goals.
pub(super) fn table(runs: &[Run]) -> String {
    let (mut missed, mut met) = (Vec::new(), Vec::new());
    for goal in GOALS {
        let measured = goal.measured(runs, &goal.values.iter().collect::<Vec<_>>());
        assert!(
            !measured.is_empty(),
            "no run has a figure of the goal {:?}",
            goal.name
        );
        if measured.iter().all(|(_, value)| *value <= goal.bound) {
            met.push(format!("{} ({})", goal.name, table::number(goal.bound)));
            continue;
        }
        let kernel = goal
            .kernel
            .iter()
            .flat_map(|value| goal.measured(runs, &[value]));
        missed.push(vec![
            goal.name.to_owned(),
            table::number(goal.bound),
            list(measured.iter().copied()),
            list(kernel),
        ]);
    }
    let head = ["goal", "bound", "measured", "echo-loop"];
    let missed = table::markdown(&head, missed.into_iter());
    format!("Met on all machines: {}.\n\n{missed}", met.join("; "))
}

fn list<'a>(measured: impl Iterator<Item = (&'a str, f64)>) -> String {
    let each = measured.map(|(machine, value)| match machine {
        "" => table::number(value),
        _ => format!("{} on {machine}", table::number(value)),
    });
    each.collect::<Vec<_>>().join("; ")
}
