//! Echo: what each message costs that comes back.

use std::{fmt, str::FromStr};

use clap::Args;

use crate::{
    cost::Cost,
    figure::Figure,
    generator,
    rounds::Rounds,
    servers::{Kind, Settings},
};

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    rounds: Rounds,
    /// How long CPU is measured in each turn of a server
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    duration: String,
    /// How long messages are sent before that
    #[arg(long, value_name = "DURATION", default_value = "500ms")]
    warm_up: String,
    /// Bytes of a message, connections, and messages of each that are under way
    #[arg(long = "shape", value_name = "SIZE:CONNECTIONS:IN-FLIGHT",
          default_values = ["20:200:1", "20:200:16", "1KiB:200:1", "16KiB:200:1", "1MiB:8:1"])]
    shapes: Vec<Shape>,
}

/// What the messages of a stretch are.
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
            .map_err(|_| "it is three numbers, such as 1KiB:200:1")?;
        Ok(Self {
            size,
            connections,
            in_flight,
        })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            size,
            connections,
            in_flight,
        } = self;
        let unit = if size.ends_with('B') { "" } else { " B" };
        write!(f, "{size}{unit} x {connections}, {in_flight} in flight")
    }
}

/// What was measured of one server in one round.
struct Stretch {
    cost: Cost,
    /// Messages in a second.
    rate: f64,
}

/// Lets all servers have their turn in each round, for each shape, and prints a table.
pub(crate) fn compare(options: &Options) {
    options.rounds.report("Echo, size x connections", || {
        println!(
            "| messages | server |{} messages/s |",
            Cost::head("message")
        );
        println!("|---|---|{}", "--:|".repeat(Cost::COLUMNS + 1));
        for shape in &options.shapes {
            compare_shape(shape, options);
        }
    });
}

fn compare_shape(shape: &Shape, options: &Options) {
    let measured = options.rounds.measure(Kind::ECHO, |kind, turn| {
        let stretch = measure(kind, shape, options);
        turn.tell(kind, &format!("{shape}: {}", stretch.cost.told()));
        stretch
    });
    for (kind, rounds) in measured.iter() {
        let cost = Cost::cells(rounds, &measured, |it| &it.cost);
        let rate = Figure::new(rounds, |it| it.rate).median;
        println!("| {shape} | {kind} |{cost} {rate:.0} |");
    }
}

fn measure(kind: Kind, shape: &Shape, options: &Options) -> Stretch {
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
    Stretch {
        cost: Cost::of(&report, report.latency("echo", "count")),
        rate: report.figure("echo.rate"),
    }
}
