//! What the tests over real sockets stand on: the program as a process, a client that knows
//! nothing of the server's code, the kernel's table of sockets, and a clock.
#![allow(dead_code, reason = "each test program uses its part of it")]

pub(crate) mod client;
pub(crate) mod deaf;
pub(crate) mod disturbance;
pub(crate) mod process;
pub(crate) mod requests;
pub(crate) mod sock_diag;
pub(crate) mod socket_table;
pub(crate) mod violations;
pub(crate) mod wait;
pub(crate) mod writer;

use std::time::Duration;

/// The delay that scheduling may add to a deadline on a machine without other work. The delay that other
/// work causes is measured, and added to every bound ([`wait`]).
pub(crate) const SLACK: Duration = Duration::from_millis(300);

/// Milliseconds, as in the table of what must hold.
pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Lets this process have as many sockets as the hard limit allows.
pub(crate) fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("the soft limit may be raised to the hard one");
}
