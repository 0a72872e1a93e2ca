//! Compares Tidewheel with other servers and with bare system calls, under the same load and in the same run.
//!
//! `cargo run --release -p benches --bin peers` runs the comparisons that `benches/RESULTS.md` shows; `-- echo` and
//! the other subcommands run one of them.

mod authentication;
mod close_storm;
mod connect;
mod cost;
mod echo;
mod echo_during_fanout;
mod fanout;
mod generator;
mod handshake;
mod host;
mod idle;
mod publisher;
mod schedule;
mod server_process;
mod servers;
mod shards;
mod subscribers;

use std::{ffi::OsString, process::ExitCode};

use clap::{Args, Command, FromArgMatches, Parser, Subcommand};
use mimalloc::MiMalloc;

use crate::schedule::Schedule;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Compare servers, each in a process on its own core, with the clients on another core
#[derive(Parser)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Without a comparison: echo, connect, idle, close-storm and fanout."
)]
struct Arguments {
    #[command(subcommand)]
    comparison: Option<Comparison>,
    #[command(flatten)]
    schedule: Schedule,
}

#[derive(Subcommand)]
enum Comparison {
    /// CPU of each echoed message
    Echo(echo::Options),
    /// CPU of each opening handshake
    Connect(connect::Options),
    /// Memory and CPU of each idle connection
    Idle(idle::Options),
    /// CPU and latency of closes at the same moment, and the detection of silent clients
    CloseStorm(close_storm::Options),
    /// CPU and latency of each delivery of a message to many subscribers
    Fanout(fanout::Options),
    /// Round trip of an echo with and without fan-outs on the same server
    EchoDuringFanout(echo_during_fanout::Options),
    /// CPU of each echoed message of a server with tasks, and of one without
    Tasks(echo::Options),
    /// Round trip of an echo while other clients are authenticated
    Authentication(authentication::Options),
    /// Deliveries a second of several shards, divided by those of one
    Shards(shards::Options),
    /// Run a server, as a child of this program or of the load generator
    #[command(name = servers::ARGUMENT, hide = true)]
    Server(servers::Invocation),
    /// Run the load generator, as a child of this program
    #[command(name = generator::ARGUMENT, hide = true, disable_help_flag = true)]
    Generator {
        /// Arguments of `loadgen`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run the server of `echo-during-fanout`, as a child of this program
    #[command(name = echo_during_fanout::SERVER_ARGUMENT, hide = true)]
    EchoDuringFanoutServer {
        /// Number of shards
        shards: u16,
        /// Core of all shards
        core: usize,
    },
    /// Run a server of `authentication`, as a child of this program
    #[command(name = authentication::SERVER_ARGUMENT, hide = true)]
    AuthenticationServer {
        /// Kind of the server
        kind: authentication::Kind,
        /// Core of the server
        core: usize,
    },
    /// Run a server of `shards`, as a child of this program
    #[command(name = shards::SERVER_ARGUMENT, hide = true)]
    ShardsServer {
        /// Kind of the server
        kind: shards::Kind,
        /// Number of shards or threads
        shards: u16,
        /// Core of the first shard or thread
        core: usize,
    },
    /// Run some of the subscribers, as a child of this program
    #[command(name = subscribers::ARGUMENT, hide = true)]
    Subscribers(subscribers::Range),
}

fn main() -> ExitCode {
    host::raise_descriptor_limit();
    match Arguments::parse().comparison {
        None => compare_all(),
        Some(Comparison::Echo(options)) => echo::compare(&options),
        Some(Comparison::Connect(options)) => connect::compare(&options),
        Some(Comparison::Idle(options)) => idle::compare(&options),
        Some(Comparison::CloseStorm(options)) => close_storm::compare(&options),
        Some(Comparison::Fanout(options)) => fanout::compare(&options),
        Some(Comparison::EchoDuringFanout(options)) => echo_during_fanout::compare(&options),
        Some(Comparison::Tasks(options)) => echo::compare_tasks(&options),
        Some(Comparison::Authentication(options)) => authentication::compare(&options),
        Some(Comparison::Shards(options)) => shards::compare(&options),
        Some(Comparison::Server(invocation)) => return servers::serve(invocation),
        Some(Comparison::Generator { arguments }) => return generator::main(arguments),
        Some(Comparison::EchoDuringFanoutServer { shards, core }) => {
            server_process::pin_and_end_with_parent(core);
            echo_during_fanout::serve(shards);
        }
        Some(Comparison::AuthenticationServer { kind, core }) => {
            server_process::pin_and_end_with_parent(core);
            authentication::serve(kind);
        }
        Some(Comparison::ShardsServer { kind, shards, core }) => shards::serve(kind, shards, core),
        Some(Comparison::Subscribers(range)) => subscribers::run(&range),
    }
    ExitCode::SUCCESS
}

/// Runs the five comparisons with other servers, with the schedule of the command line and default options.
fn compare_all() {
    echo::compare(&options());
    connect::compare(&options());
    idle::compare(&options());
    close_storm::compare(&options());
    fanout::compare(&options());
}

/// Parses the command line as the options of a comparison.
fn options<T: Args + FromArgMatches>() -> T {
    let matches = T::augment_args(Command::new("peers")).get_matches();
    T::from_arg_matches(&matches).expect("the arguments were parsed as these options")
}
