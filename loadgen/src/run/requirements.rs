//! Requirements of a scenario for its run.

use crate::{
    options::deadlines::Deadlines, report::metric_names::MetricNames, server::service::Service,
};

/// Default size of a message, in bytes.
pub(crate) const MESSAGE_BYTES_DEFAULT: usize = 64;

/// Requirements of a scenario, known before it starts.
#[derive(Clone, Debug)]
pub(crate) struct Requirements {
    /// Name of the scenario on the command line.
    pub(crate) scenario: &'static str,
    /// Default number of connections.
    pub(crate) connections: u32,
    /// Service of the server.
    pub(crate) service: Service,
    /// Deadlines of a child.
    pub(crate) deadlines: Deadlines,
    /// Usual size of a message, in bytes.
    pub(crate) message_size: usize,
    /// Metrics of the scenario.
    pub(crate) names: MetricNames,
}
