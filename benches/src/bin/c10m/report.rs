//! The tables of the measurements.

use std::{fmt, fs, time::Duration};

use benches::results::{Figure, Run, host::command};

use crate::{
    Options, memory_accounts,
    server::Server,
    turn_times::{Overhead, TurnTimes},
};

/// Name of the phase that waits for the timer wheel. Its CPU is not a result.
pub(crate) const EMPTY_WHEEL: &str = "until the wheel is empty";

const MIB: f64 = (1 << 20) as f64;

/// Memory of the server at one time, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Allocated memory, with the memory that is reserved for more connections.
    pub(crate) allocated: usize,
    /// Allocated memory that was ever used.
    used: usize,
    /// Memory of the timer wheels.
    wheel: usize,
    /// Resident memory of the process, less the allocated memory of the simulation, all of which was touched. The kernel
    /// may use huge pages, so that this is coarse for few connections.
    resident: usize,
}

impl Memory {
    /// Reads the memory of a server that has had `connections_max` connections open at the same time.
    pub(crate) fn now(server: &Server, connections_max: u32) -> Self {
        let allocated = memory_accounts::server_bytes();
        Self {
            allocated,
            used: allocated - server.untouched_bytes(connections_max),
            wheel: server.holdings().wheel_bytes,
            resident: resident().saturating_sub(memory_accounts::simulation_bytes()),
        }
    }
}

fn resident() -> usize {
    let text = fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("VmRSS:"));
    let kib = lines.next().map(|line| line.trim().trim_end_matches(" kB"));
    kib.and_then(|kib| kib.parse::<usize>().ok())
        .expect("status has VmRSS")
        * 1024
}

/// Measurements of a phase.
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) turn_times: TurnTimes,
    /// Duration, with the simulation.
    pub(crate) total: Duration,
    /// Virtual time.
    pub(crate) simulated: Duration,
    /// Peak of the server's allocated memory.
    pub(crate) peak_bytes: usize,
}

/// All measurements.
pub(crate) struct Report {
    pub(crate) options: Options,
    pub(crate) overhead: Overhead,
    /// The load averages before and after.
    pub(crate) loads: [String; 2],
    pub(crate) slot_bytes: usize,
    pub(crate) buffer_bytes: usize,
    pub(crate) empty: Memory,
    pub(crate) idle: Memory,
    pub(crate) pinged: Memory,
    pub(crate) subscribed: Memory,
    pub(crate) left: Memory,
    pub(crate) phases: Vec<Phase>,
}

impl Report {
    /// Returns the memory of each idle connection, in bytes.
    #[cfg(test)]
    pub(crate) fn idle_bytes(&self) -> f64 {
        self.each(self.idle.used, self.empty.used)
    }

    /// Returns the run for the file of results.
    pub(crate) fn to_run(&self) -> Run {
        let mut run = Run::new("c10m", command("run --release -p benches --bin c10m"));
        let row = format!("{} connections", self.options.connections);
        for (column, memory) in [("idle, B", self.idle), ("subscribed, B", self.subscribed)] {
            let bytes = self.each(memory.used, self.empty.used);
            run.add(&row, 1, column, Figure::median(bytes));
        }
        let connections = f64::from(self.options.connections);
        for phase in &self.phases {
            let column = format!("{}, us", phase.name);
            let cpu = phase.turn_times.total.as_secs_f64() * 1e6 / connections;
            if phase.name != EMPTY_WHEEL && !run.columns.contains(&column) {
                run.add(&row, 1, &column, Figure::median(cpu));
            }
        }
        run
    }

    fn each(&self, bytes: usize, less: usize) -> f64 {
        (bytes as f64 - less as f64) / f64::from(self.options.connections)
    }

    fn write_memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| memory of the server | used, B/connection | of it timer wheel | resident, B/connection | used, MiB \
             | allocated, MiB |"
        )?;
        writeln!(f, "|---|--:|--:|--:|--:|--:|")?;
        for (name, memory) in [
            ("empty", self.empty),
            ("idle", self.idle),
            ("after a keepalive round", self.pinged),
            ("one subscription each", self.subscribed),
            ("all ended", self.left),
        ] {
            writeln!(
                f,
                "| {name} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} |",
                self.each(memory.used, self.empty.used),
                self.each(memory.wheel, self.empty.wheel),
                self.each(memory.resident, self.empty.resident),
                memory.used as f64 / MIB,
                memory.allocated as f64 / MIB,
            )?;
        }
        writeln!(
            f,
            "\nA connection reserves {} bytes. Receive buffers, mapped: {:.1} MiB.\n",
            self.slot_bytes,
            self.buffer_bytes as f64 / MIB
        )
    }

    fn write_phases(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| phase | CPU, us/connection | calls of the ring | CPU, s | simulated, s | turns | longest turn, ms \
             | longest without completions, ms | most allocated, MiB | total, s |"
        )?;
        writeln!(f, "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")?;
        for phase in &self.phases {
            let TurnTimes {
                total,
                turns,
                longest,
                longest_without_completions,
                ring_calls,
            } = &phase.turn_times;
            let each =
                |time: Duration| time.as_secs_f64() * 1e6 / f64::from(self.options.connections);
            let calls = *ring_calls as f64 / f64::from(self.options.connections);
            writeln!(
                f,
                "| {} | {:.3} | {calls:.1} | {:.2} | {:.1} | {turns} | {:.3} | {:.3} | {:.1} | {:.1} |",
                phase.name,
                each(*total),
                total.as_secs_f64(),
                phase.simulated.as_secs_f64(),
                longest.as_secs_f64() * 1e3,
                longest_without_completions.as_secs_f64() * 1e3,
                phase.peak_bytes as f64 / MIB,
                phase.total.as_secs_f64(),
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options {
            connections,
            shards,
            message_size,
            seed,
            ..
        } = self.options;
        writeln!(
            f,
            "{connections} connections on {shards} shards, messages of {message_size} bytes, seed {seed}; load \
             average before {}; after {}\n",
            self.loads[0], self.loads[1]
        )?;
        self.write_memory(f)?;
        self.write_phases(f)?;
        write!(
            f,
            "\nCPU is that of the turns. It includes a read of the clock in each turn, {:?}, and the calls of the ring, {:?} \
             each if the caches have all data.",
            self.overhead.clock, self.overhead.call
        )
    }
}
