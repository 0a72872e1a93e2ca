//! Figures of the resources that a run used.

use std::time::Duration;

use crate::{
    measure::{
        figures::{FigureNames, Figures, Unit},
        usage::Usage,
    },
    options::common::CommonOptions,
    report::metric_names::MetricNames,
};

/// Figure of the resident memory of a server that the run starts.
pub(super) const RESIDENT: FigureNames = &[("server.resident_bytes", Unit::Bytes)];

/// Figure of [`per_million`].
const PER_MILLION: FigureNames = &[("generator.cpu_seconds_per_million", Unit::Seconds)];

/// Further figure of a server that the run starts.
const SERVER_PER_MILLION: FigureNames = &[("server.cpu_seconds_per_million", Unit::Seconds)];

/// Further figure if its system calls are counted.
const SYSCALLS_PER_MILLION: FigureNames = &[("server.syscalls_per_million", Unit::Count)];

/// Adds the names of the figures of [`per_million`].
pub(super) fn names_per_million(names: MetricNames, common: &CommonOptions) -> MetricNames {
    names
        .figures(PER_MILLION)
        .figures_if(common.server_is_started(), SERVER_PER_MILLION)
        .figures_if(common.count_syscalls, SYSCALLS_PER_MILLION)
}

/// Adds the figures of the resources that server and generator used for a million messages.
pub(super) fn per_million(figures: &mut Figures, usage: &Usage, messages: u64) {
    let millions = messages as f64 / 1e6;
    let mut add = |name, cpu: Duration| {
        if messages > 0 {
            figures.seconds(name, cpu.div_f64(millions));
        }
    };
    if usage.server.is_some() {
        add("server.cpu_seconds_per_million", usage.server_cpu);
    }
    add("generator.cpu_seconds_per_million", usage.generator.running);
    if let Some(syscalls) = usage.syscalls
        && messages > 0
    {
        let each = (syscalls as f64 / millions) as u64;
        figures.count("server.syscalls_per_million", each);
    }
}
