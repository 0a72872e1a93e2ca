//! A shard on a simulated kernel and network, in virtual time.
//!
//! A failing test prints its seed. The same seed gives the same run.

mod simulation {
    pub(crate) mod bench;
    pub(crate) mod client;
    mod close_storm;
    mod deadlines;
    mod destructors;
    pub(crate) mod echo;
    mod fanout;
    mod faults;
    mod hand_over;
    mod handler_close;
    mod large;
    mod oracle;
    mod overflow;
    mod overload;
    mod panics;
    mod presence;
    mod slices;
    mod slow_consumers;
    mod timers;
    mod undecided;
}
