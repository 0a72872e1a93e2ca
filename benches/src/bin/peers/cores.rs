//! What the host gives to a server and to its clients.

use std::fs;

use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// The core of the servers and the core of the clients.
///
/// # Panics
/// If there is one core only: then nothing can be compared.
pub(crate) fn pick() -> (usize, usize) {
    match allowed()[..] {
        [servers, clients, ..] => (servers, clients),
        _ => panic!("servers and clients need a core each; this process may use one only"),
    }
}

/// The cores that this process may use.
pub(crate) fn allowed() -> Vec<usize> {
    let allowed = sched_getaffinity(None).expect("this process may know its cores");
    let numbers = 0..CpuSet::MAX_CPU;
    numbers.filter(|&core| allowed.is_set(core)).collect()
}

/// Keeps this thread, and those that it starts, on a core.
pub(crate) fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).expect("the core is there");
}

/// Raises the soft limit of descriptors to the hard one.
pub(crate) fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("the soft limit may be raised to the hard one");
}

/// How many were ready to run on this host: in the last minute, in the last five.
pub(crate) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").expect("proc is mounted");
    text.split(' ').take(2).collect::<Vec<_>>().join(", ")
}
