//! Names of latencies that several scenarios report.

/// The lateness of the generator: from the planned moment to the actual one.
pub(crate) const LATENESS: &str = "lateness";

/// Upper bound of the time that answers lay unread; a phase of a run has a name before this one.
pub(crate) const UNREAD: &str = "unread";

/// The scheduling latency of the machine itself.
pub(crate) const HICCUP: &str = "hiccup";
