//! The tables.

use std::{fmt, fs, time::Duration};

use crate::{
    Options, ledger,
    meter::{Meter, Overhead},
    world::World,
};

const MIB: f64 = (1 << 20) as f64;

/// Memory at one moment, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Allocated by the server, places that are reserved for further connections included.
    pub(crate) allocated: usize,
    /// The same without places that no connection has ever had.
    used: usize,
    /// Of that, the timer wheels'.
    wheel: usize,
    /// Resident in the process, less what the simulation has allocated, all of which is touched.
    /// The kernel gives memory in huge pages, so this is coarse where there are few connections.
    resident: usize,
}

impl Memory {
    /// When so many connections at most have been open at a time.
    pub(crate) fn now(world: &World, connections_max: u32) -> Self {
        let allocated = ledger::server_bytes();
        Self {
            allocated,
            used: allocated - world.untouched_bytes(connections_max),
            wheel: world.holdings().wheel_bytes,
            resident: resident().saturating_sub(ledger::simulation_bytes()),
        }
    }
}

fn resident() -> usize {
    let text = fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("VmRSS:"));
    let kib = lines.next().map(|line| line.trim().trim_end_matches(" kB"));
    kib.and_then(|kib| kib.parse::<usize>().ok())
        .expect("VmRSS is told")
        * 1024
}

/// What a phase has taken.
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) meter: Meter,
    /// Time that it took, simulation included.
    pub(crate) total: Duration,
    /// Time that passed in the simulation.
    pub(crate) simulated: Duration,
    /// The most that the server had allocated.
    pub(crate) peak_bytes: usize,
}

/// Everything that was measured.
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
    /// Bytes that each idle connection has added.
    #[cfg(test)]
    pub(crate) fn idle_bytes(&self) -> f64 {
        self.each(self.idle.used, self.empty.used)
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
            ("all gone", self.left),
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
            "\nA place takes {} bytes. Receive buffers, mapped: {:.1} MiB.\n",
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
            let Meter {
                turns_time,
                turns,
                longest,
                longest_unasked,
                calls,
            } = &phase.meter;
            let each =
                |time: Duration| time.as_secs_f64() * 1e6 / f64::from(self.options.connections);
            let calls = *calls as f64 / f64::from(self.options.connections);
            writeln!(
                f,
                "| {} | {:.3} | {calls:.1} | {:.2} | {:.1} | {turns} | {:.3} | {:.3} | {:.1} | {:.1} |",
                phase.name,
                each(*turns_time),
                turns_time.as_secs_f64(),
                phase.simulated.as_secs_f64(),
                longest.as_secs_f64() * 1e3,
                longest_unasked.as_secs_f64() * 1e3,
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
            "\nCPU is that of the turns. In it are a look at the clock for each, {:?}, and the calls of the ring for each \
             connection: {:?} each where the cache has everything.",
            self.overhead.clock, self.overhead.call
        )
    }
}
