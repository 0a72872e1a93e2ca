//! The `process_*` metrics, with the names and units of the Prometheus client libraries.

use std::{fmt, sync::OnceLock};

use procfs::{ProcResult, WithCurrentSystemInfo, process::Process};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use crate::host;

/// Reads the metrics of this process from `/proc`, each time that it is collected.
#[derive(Debug)]
pub(super) struct ProcessMetrics;

/// The metrics of this process.
struct Figures {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    descriptors: u64,
    threads: u64,
    /// Since the Unix epoch.
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

/// The time of the boot in seconds since the Unix epoch. Read once, because `/proc/stat` is long.
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
        // /proc may not be mounted.
        let Ok(figures) = Figures::read() else {
            return Ok(());
        };
        let help = "CPU time of the process, user and system";
        let unit = Some(&Unit::Seconds);
        let metric = encoder.encode_descriptor("process_cpu", help, unit, MetricType::Counter)?;
        ConstCounter::new(figures.cpu_seconds).encode(metric)?;
        for (name, help, unit, value) in [
            (
                "process_resident_memory",
                "Resident memory",
                Some(Unit::Bytes),
                figures.resident_bytes,
            ),
            (
                "process_virtual_memory",
                "Virtual memory",
                Some(Unit::Bytes),
                figures.virtual_bytes,
            ),
            (
                "process_open_fds",
                "Open file descriptors, without the direct descriptors of rings",
                None,
                figures.descriptors,
            ),
            (
                "process_max_fds",
                "Maximum number of open file descriptors (RLIMIT_NOFILE), which also limits the connections of each shard",
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
        let help = "Start time of the process since the Unix epoch";
        let metric =
            encoder.encode_descriptor("process_start_time", help, unit, MetricType::Gauge)?;
        ConstGauge::new(figures.start_seconds).encode(metric)
    }
}
