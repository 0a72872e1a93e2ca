//! Cores, descriptor limit and load average of the host.

use std::fs;

use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// Returns the core of the servers and the core of the clients.
///
/// # Panics
/// If this process may use one core only.
pub(crate) fn server_and_client_core() -> (usize, usize) {
    match allowed_cores()[..] {
        [servers, clients, ..] => (servers, clients),
        _ => panic!("servers and clients need a core each; this process may use one only"),
    }
}

/// Returns the cores that this process may use.
pub(crate) fn allowed_cores() -> Vec<usize> {
    let allowed = sched_getaffinity(None).expect("the affinity of this thread is readable");
    let numbers = 0..CpuSet::MAX_CPU;
    numbers.filter(|&core| allowed.is_set(core)).collect()
}

/// Pins this thread, and the threads that it starts, to a core.
pub(crate) fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).expect("the core exists and is allowed");
}

/// Raises the soft limit of descriptors to the hard limit.
pub(crate) fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("the soft limit may be raised to the hard limit");
}

/// Returns the load averages of one minute and of five minutes.
pub(crate) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").expect("proc is mounted");
    text.split(' ').take(2).collect::<Vec<_>>().join(", ")
}
