//! Echo: CPU of each message that the server sends back.

use std::{fmt, str::FromStr};

use benches::results::Run;
use clap::Args;

use crate::{
    cost::{Cost, figure, median},
    generator,
    schedule::Schedule,
    servers::{Kind, Settings},
};

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    schedule: Schedule,
    /// Time for which the CPU of a server is measured in each round
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    duration: String,
    /// Time for which messages are sent before the measurement
    #[arg(long, value_name = "DURATION", default_value = "500ms")]
    warm_up: String,
    /// Size of a message, number of connections, and messages in flight on each connection
    #[arg(long = "shape", value_name = "SIZE:CONNECTIONS:IN-FLIGHT",
          default_values = ["20:200:1", "20:200:16", "1KiB:200:1", "16KiB:200:1", "1MiB:8:1"])]
    shapes: Vec<Shape>,
}

/// Sizes and numbers of one measurement.
#[derive(Clone, Debug)]
struct Shape {
    size: String,
    connections: String,
    in_flight: String,
}

impl FromStr for Shape {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<String> = text.split(':').map(str::to_owned).collect();
        let [size, connections, in_flight] = <[String; 3]>::try_from(parts)
            .map_err(|_| "a shape is three numbers, such as 1KiB:200:1")?;
        Ok(Self {
            size,
            connections,
            in_flight,
        })
    }
}

impl fmt::Display for Shape {
    /// Writes a shape as `1 KiB x 200` or `20 B x 200, 16 in flight`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            size,
            connections,
            in_flight,
        } = self;
        let digits = size.trim_end_matches(|letter: char| !letter.is_ascii_digit());
        let unit = match &size[digits.len()..] {
            "" => "B",
            unit => unit,
        };
        write!(f, "{digits} {unit} x {connections}")?;
        match in_flight.as_str() {
            "1" => Ok(()),
            _ => write!(f, ", {in_flight} in flight"),
        }
    }
}

/// Measurements of one server in one round.
struct Echoes {
    cost: Cost,
    /// Messages a second.
    rate: f64,
}

/// Measures all servers with each shape, and prints a table.
pub(crate) fn compare(options: &Options) {
    compare_servers("echo", "Echo, size x connections", Kind::ECHO, options);
}

/// Measures Tidewheel with tasks and without, and prints a table.
pub(crate) fn compare_tasks(options: &Options) {
    let title = "Echo of a server with tasks, size x connections";
    compare_servers("tasks", title, Kind::TASKS, options);
}

fn compare_servers(benchmark: &str, title: &str, servers: &[Kind], options: &Options) {
    options.schedule.report(benchmark, title, |run| {
        println!(
            "| messages | server |{} messages/s |",
            Cost::head("message")
        );
        println!("|---|---|{}", "--:|".repeat(Cost::COLUMNS + 1));
        for shape in &options.shapes {
            compare_shape(shape, servers, options, run);
        }
    });
}

fn compare_shape(shape: &Shape, servers: &[Kind], options: &Options, run: &mut Run) {
    let measured = options.schedule.measure(servers, |kind, round| {
        let echoes = measure(kind, shape, options);
        round.log(kind, &format!("{shape}: {}", echoes.cost.summary()));
        echoes
    });
    let row = format!("echo, {shape}");
    for (kind, rounds) in measured.iter() {
        let cost = Cost::cells(rounds, &measured, |it| &it.cost);
        println!(
            "| {shape} | {kind} |{cost} {:.0} |",
            median(rounds, |it| it.rate)
        );
        let cpu = figure(rounds, |it| it.cost.cpu_us);
        run.add(&row, rounds.len(), &kind.to_string(), cpu);
    }
    if let Some(rounds) = measured.of(Kind::Tidewheel) {
        run.add(
            &row,
            rounds.len(),
            "messages/s",
            figure(rounds, |it| it.rate),
        );
    }
}

fn measure(kind: Kind, shape: &Shape, options: &Options) -> Echoes {
    let scenario = [
        "echo",
        "--size",
        &shape.size,
        "--connections",
        &shape.connections,
        "--in-flight",
        &shape.in_flight,
        "--duration",
        &options.duration,
        "--warm-up",
        &options.warm_up,
    ];
    let report = generator::run(kind, Settings::default(), &scenario).checked(kind);
    Echoes {
        cost: Cost::of(&report, report.latency("echo", "count")),
        rate: report.figure("echo.rate"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_named_by_size_connections_and_messages_in_flight() {
        let name = |text: &str| text.parse::<Shape>().unwrap().to_string();
        assert_eq!(name("20:200:1"), "20 B x 200");
        assert_eq!(name("1KiB:200:16"), "1 KiB x 200, 16 in flight");
    }
}
