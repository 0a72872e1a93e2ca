//! Names of metrics that depend on the common options only.

use crate::{
    measure::{
        figures::{FigureNames, Unit},
        latency_names::{LATENESS, UNREAD},
    },
    options::common::CommonOptions,
    report::metric_names::{LatencyForm, MetricNames},
    server::softirq_thread_is_visible,
};

/// Figures of all runs.
const ALWAYS: FigureNames = &[
    ("window_seconds", Unit::Seconds),
    ("generator.busy", Unit::Share),
    ("generator.waiting", Unit::Share),
    ("generator.stolen", Unit::Share),
    ("machine.stolen_seconds", Unit::Seconds),
    ("generator.cpu_seconds", Unit::Seconds),
];

/// Figures of a server that the run starts, in the measured window.
const SERVER_WINDOW: FigureNames = &[
    ("server.busy", Unit::Share),
    ("server.window_cpu_seconds", Unit::Seconds),
];

/// Further figure if the kernel's network thread of the server's core is visible.
const SOFTIRQS: FigureNames = &[("server.window_softirq_seconds", Unit::Seconds)];

/// Further figure if system calls are counted.
const SYSCALLS: FigureNames = &[("server.window_syscalls", Unit::Count)];

/// Name of the CPU time of a server that the run starts.
pub(crate) const SERVER_CPU: &str = "server.cpu_seconds";

/// Figures of a server that the run starts, and that still runs at the end.
const SERVER_END: FigureNames = &[(SERVER_CPU, Unit::Seconds)];

/// Name of the figure of a server that has a report, and that still runs at the end.
pub(crate) const STARVATIONS: &str = "server.starvations";
const REPORTED: FigureNames = &[(STARVATIONS, Unit::Count)];

/// Figures of TLS.
const TLS: FigureNames = &[
    ("tls.handshakes_full", Unit::Count),
    ("tls.handshakes_resumed", Unit::Count),
];

impl MetricNames {
    /// Returns the names of every run with these options.
    pub(crate) fn of_all(common: &CommonOptions) -> Self {
        Self::default()
            .figures(ALWAYS)
            .figures_if(common.is_secure(), TLS)
    }

    /// Returns the names of a run that sends messages. In a closed loop there is no lateness, and the
    /// latencies have one form.
    pub(crate) fn of_messages(
        common: &CommonOptions,
        is_open_loop: bool,
        latencies: &[&'static str],
    ) -> Self {
        let form = match is_open_loop {
            true => LatencyForm::WithUncorrected,
            false => LatencyForm::Corrected,
        };
        Self::of_all(common)
            .server_window(common)
            .server_end(common)
            .latencies(form, latencies)
            .latencies_if(is_open_loop, LatencyForm::Corrected, &[LATENESS])
            .latencies(LatencyForm::Corrected, &[UNREAD])
    }

    /// Adds the figures of a server that runs in the measured window.
    pub(crate) fn server_window(self, common: &CommonOptions) -> Self {
        let is_started = common.server_is_started();
        self.figures_if(is_started, SERVER_WINDOW)
            .figures_if(is_started && softirq_thread_is_visible(), SOFTIRQS)
            .figures_if(common.count_syscalls, SYSCALLS)
    }

    /// Adds the figures of a server that still runs at the end.
    pub(crate) fn server_end(self, common: &CommonOptions) -> Self {
        self.figures_if(common.server_is_started(), SERVER_END)
            .figures_if(common.server_reports(), REPORTED)
    }
}
