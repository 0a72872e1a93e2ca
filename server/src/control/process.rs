//! The metrics `process_*`, named and counted as by the client libraries of Prometheus.

use std::{fmt, sync::OnceLock};

use procfs::{ProcResult, WithCurrentSystemInfo, process::Process};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use crate::host;

/// Reads what the kernel tells about this process, each time it is asked.
#[derive(Debug)]
pub(super) struct ProcessMetrics;

/// Figures of this process, from the kernel.
struct Figures {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    descriptors: u64,
    threads: u64,
    /// Since the epoch.
    start_seconds: f64,
}

impl Figures {
    fn read() -> ProcResult<Self> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let ticks_per_second = procfs::ticks_per_second() as f64;
        Ok(Self {
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks_per_second,
            resident_bytes: stat.rss_bytes().get(),
            virtual_bytes: stat.vsize,
            descriptors: process.fd_count()? as u64,
            threads: stat.num_threads.cast_unsigned(),
            start_seconds: boot_seconds()? + stat.starttime as f64 / ticks_per_second,
        })
    }
}

/// The time since the epoch at which the system was booted. It is read once, because its file is long.
fn boot_seconds() -> ProcResult<f64> {
    static BOOT_SECONDS: OnceLock<f64> = OnceLock::new();
    if let Some(seconds) = BOOT_SECONDS.get() {
        return Ok(*seconds);
    }
    let seconds = procfs::boot_time_secs()? as f64;
    Ok(*BOOT_SECONDS.get_or_init(|| seconds))
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        // Without /proc there are none.
        let Ok(figures) = Figures::read() else {
            return Ok(());
        };
        let help = "User and system CPU time spent";
        let unit = Some(&Unit::Seconds);
        let metric = encoder.encode_descriptor("process_cpu", help, unit, MetricType::Counter)?;
        ConstCounter::new(figures.cpu_seconds).encode(metric)?;
        for (name, help, unit, value) in [
            (
                "process_resident_memory",
                "Resident memory size",
                Some(Unit::Bytes),
                figures.resident_bytes,
            ),
            (
                "process_virtual_memory",
                "Virtual memory size",
                Some(Unit::Bytes),
                figures.virtual_bytes,
            ),
            (
                "process_open_fds",
                "Open file descriptors, without those that only rings hold",
                None,
                figures.descriptors,
            ),
            (
                "process_max_fds",
                "File descriptors at most, which also bounds the connections of each shard",
                None,
                host::descriptor_limit(),
            ),
            (
                "process_threads",
                "Threads of the process",
                None,
                figures.threads,
            ),
        ] {
            let metric = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric)?;
        }
        let help = "Start of the process since the Unix epoch";
        let metric =
            encoder.encode_descriptor("process_start_time", help, unit, MetricType::Gauge)?;
        ConstGauge::new(figures.start_seconds).encode(metric)
    }
}
