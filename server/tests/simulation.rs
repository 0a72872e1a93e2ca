//! The shard on a simulated kernel and network, in virtual time.
//!
//! A failing seed is named; the same seed gives the same run again.

mod simulation {
    pub(crate) mod bench;
    mod close_storm;
    mod deadlines;
    mod ends;
    mod fanout;
    mod faults;
    mod hand_over;
    mod large;
    mod oracle;
    mod overflow;
    mod overload;
    mod panics;
    mod slices;
    mod slow_consumers;
}
