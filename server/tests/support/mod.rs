//! Support of the tests over real sockets: the program as a process, a client that shares no code
//! with the server, the kernel's table of sockets, and waiting with bounds.
#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod client;
pub(crate) mod invalid_requests;
pub(crate) mod non_reader;
pub(crate) mod prober;
pub(crate) mod process;
pub(crate) mod retry;
pub(crate) mod scheduling_delay;
pub(crate) mod sock_diag;
pub(crate) mod socket_table;
pub(crate) mod turn;
pub(crate) mod violations;
pub(crate) mod wait;
pub(crate) mod writer;

use std::time::Duration;

/// Delay that timers and scheduling may add to a deadline on an idle machine. The delay by other load is
/// measured and added to every bound ([`wait`]).
pub(crate) const SLACK: Duration = Duration::from_millis(300);

/// Returns a duration in milliseconds.
pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Raises the limit of descriptors of this process (`RLIMIT_NOFILE`) to the hard limit.
pub(crate) fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("the soft limit can be raised to the hard limit");
}
