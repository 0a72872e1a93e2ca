//! Round trip of an echo on a server that authenticates other clients at the same time, each for 50 ms.

mod axum;
mod logins;
mod tidewheel;

use std::time::Duration;

use benches::results::{Figure, Output, Run};
use clap::{Args, ValueEnum};

use self::logins::Logins;
use crate::{
    echo_during_fanout::{EchoClient, Measurements},
    host,
    schedule::new_run,
    server_process::ServerProcess,
};

/// Subcommand that runs a server.
pub(crate) const SERVER_ARGUMENT: &str = "authentication-server";

/// Path of a client that is authenticated for [`DURATION`].
const LOGIN_PATH: &str = "/login";

/// Duration of an authentication.
const DURATION: Duration = Duration::from_millis(50);

/// A server.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// Tidewheel, with `Verdict::later`
    Tidewheel,
    /// axum
    Axum,
}

#[derive(Args)]
pub(crate) struct Options {
    /// Clients that are authenticated at the same time, or in one second
    #[arg(long, default_value_t = 1000)]
    clients: usize,
    /// Rounds; each measures every server under each load
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Time of each measurement, in seconds
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Echoes a second
    #[arg(long, default_value_t = 200)]
    rate: u32,
    #[command(flatten)]
    output: Output,
}

/// The activity of other clients during a measurement.
#[derive(Clone, Copy)]
enum Load {
    Nothing,
    /// All begin at the same time, and again when all are authenticated.
    AtOnce,
    /// They begin one after the other, as many in each second.
    PerSecond,
}

const LOADS: [Load; 3] = [Load::Nothing, Load::PerSecond, Load::AtOnce];

impl Load {
    fn name(self, clients: usize) -> String {
        match self {
            Self::Nothing => "no other clients".to_owned(),
            Self::AtOnce => format!("{clients} at once"),
            Self::PerSecond => format!("{clients} a second"),
        }
    }
}

/// Measures both servers, and prints a table.
pub(crate) fn compare(options: &Options) {
    let (server_core, client_core) = host::server_and_client_core();
    host::pin(client_core);
    println!(
        "An echo {} times a second, while other clients are authenticated for {DURATION:?} each; {} rounds of {} s; \
         load average {}\n",
        options.rate,
        options.rounds,
        options.seconds,
        host::load_average(),
    );
    println!(
        "| server | other clients | authenticated | echoes | p50, ms | p99 | longest |\n\
         |---|---|--:|--:|--:|--:|--:|"
    );
    let mut run = new_run("authentication");
    let kinds = Kind::value_variants();
    let mut measured: Vec<[(Measurements, usize); 3]> =
        kinds.iter().map(|_| Default::default()).collect();
    for round in 1..=options.rounds {
        for (kind, loads) in kinds.iter().zip(&mut measured) {
            measure(*kind, server_core, options, loads);
            eprintln!("round {round}: {kind:?}");
        }
    }
    for (kind, loads) in kinds.iter().zip(&mut measured) {
        print(*kind, options, loads, &mut run);
    }
    options.output.save(&run);
}

/// Measures one server under each load, and adds the measurements to `loads`.
fn measure(kind: Kind, core: usize, options: &Options, loads: &mut [(Measurements, usize); 3]) {
    let name = kind.to_possible_value().expect("every kind has a name");
    let server = ServerProcess::start(&[SERVER_ARGUMENT, name.get_name()], core);
    let mut client = EchoClient::connect(&server, Duration::from_secs(1) / options.rate);
    let period = Duration::from_secs(options.seconds);
    for (load, (measurements, authenticated)) in LOADS.into_iter().zip(loads) {
        let logins = Logins::new(server.address, options.clients);
        let round_trips = match load {
            Load::Nothing => client.run_for(period),
            Load::AtOnce => client.run_during(|| *authenticated += logins.at_once(period)),
            Load::PerSecond => client.run_during(|| *authenticated += logins.per_second(period)),
        };
        measurements.add(round_trips);
    }
}

fn print(kind: Kind, options: &Options, loads: &mut [(Measurements, usize); 3], run: &mut Run) {
    let name = kind.to_possible_value().expect("every kind has a name");
    for (load, (measurements, authenticated)) in LOADS.into_iter().zip(loads) {
        let (count, [p50, p99, longest]) = measurements.finish();
        let load = load.name(options.clients);
        println!(
            "| {} | {load} | {authenticated} | {count} | {p50:.2} | {p99:.2} | {longest:.2} |",
            name.get_name()
        );
        run.add(
            &format!("echo during authentication, {load}"),
            count,
            name.get_name(),
            Figure::median(p99),
        );
    }
}

/// Serves until the process ends.
pub(crate) fn serve(kind: Kind) {
    match kind {
        Kind::Tidewheel => tidewheel::serve(),
        Kind::Axum => axum::serve(),
    }
}
