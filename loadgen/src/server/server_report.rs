//! The metrics of the server, in the Prometheus text format.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use ureq::Agent;

/// Longest wait for an answer of the server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads the metrics of a server over one persistent connection.
#[derive(Clone, Debug)]
pub(crate) struct ReportReader {
    agent: Agent,
    url: String,
}

/// The metrics of the server at one moment. Each is the sum over all shards.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct ServerReport {
    metrics: BTreeMap<String, u64>,
    closes: BTreeMap<String, u64>,
}

/// An error of reading the metrics.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    /// The request failed.
    #[error(
        "the metrics of the server cannot be read at {url}: {error}; --admin is the address of the admin \
         listener of a Tidewheel server"
    )]
    Request {
        /// URL of the metrics.
        url: String,
        /// The cause.
        error: Box<ureq::Error>,
    },
    /// A metric is missing.
    #[error("the metrics of the server at {url} do not contain {metric}")]
    Missing {
        /// URL of the metrics.
        url: String,
        /// Name of the metric.
        metric: &'static str,
    },
}

impl ReportReader {
    /// Makes a reader for the admin listener at `address`.
    pub(crate) fn new(address: SocketAddr) -> Self {
        let agent = Agent::config_builder()
            .timeout_global(Some(ANSWER_TIMEOUT))
            .build()
            .new_agent();
        let url = format!("http://{address}/metrics");
        Self { agent, url }
    }

    /// Reads the current metrics.
    ///
    /// # Errors
    /// If the server does not answer, or its answer contains no Tidewheel metrics.
    pub(crate) fn read(&self) -> Result<ServerReport, ReportError> {
        let text = self
            .agent
            .get(&self.url)
            .call()
            .and_then(|mut response| response.body_mut().read_to_string())
            .map_err(|error| ReportError::Request {
                url: self.url.clone(),
                error: Box::new(error),
            })?;
        ServerReport::parse(&text).ok_or_else(|| ReportError::Missing {
            url: self.url.clone(),
            metric: CONNECTIONS,
        })
    }
}

const CONNECTIONS: &str = "tidewheel_connections";
const CLOSES: &str = "tidewheel_closes_total";
const STARVATIONS: &str = "tidewheel_starvations_total";
const OPENS: &str = "tidewheel_opens_total";

impl ServerReport {
    /// Adds up the lines of each metric. `None` if the number of connections is missing.
    fn parse(text: &str) -> Option<Self> {
        let mut report = Self::default();
        for line in text.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let Ok(value) = value.parse::<u64>() else {
                continue;
            };
            *report.metrics.entry(name.to_owned()).or_insert(0) += value;
            if name == CLOSES && value > 0 {
                *report.closes.entry(cause(labels).to_owned()).or_insert(0) += value;
            }
        }
        report.metrics.contains_key(CONNECTIONS).then_some(report)
    }

    fn metric(&self, name: &str) -> u64 {
        self.metrics.get(name).copied().unwrap_or(0)
    }

    /// Returns the number of connections that hold a descriptor.
    pub(crate) fn connections(&self) -> u64 {
        self.metric(CONNECTIONS)
    }

    /// Returns the number of completed opening handshakes.
    pub(crate) fn opens(&self) -> u64 {
        self.metric(OPENS)
    }

    /// Returns the number of connections that were opened and have ended.
    pub(crate) fn ends(&self) -> u64 {
        self.metric(CLOSES)
    }

    /// Returns the number of receives that found no free buffer, if the server reports it.
    pub(crate) fn starvations(&self) -> Option<u64> {
        self.metrics.get(STARVATIONS).copied()
    }

    /// Returns the number of connections that were opened and have ended, by cause.
    pub(crate) fn closes(&self) -> BTreeMap<String, u64> {
        self.closes.clone()
    }
}

/// Returns the value of the label `cause`.
fn cause(labels: &str) -> &str {
    labels
        .split_once("cause=\"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("unknown", |(cause, _)| cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP tidewheel_connections Connections that hold a descriptor.
# TYPE tidewheel_connections gauge
tidewheel_connections{shard=\"0\"} 7
tidewheel_connections{shard=\"1\"} 5
tidewheel_connections_limit 100
tidewheel_closes_total{cause=\"reset\",shard=\"0\"} 2
tidewheel_closes_total{shard=\"1\",cause=\"reset\"} 3
tidewheel_closes_total{shard=\"1\",cause=\"peer_close\"} 1
# EOF
";

    #[test]
    fn metrics_are_summed_over_all_shards() {
        let report = ServerReport::parse(TEXT).unwrap();
        assert_eq!((report.connections(), report.ends()), (12, 6));
        assert_eq!(report.opens(), 0);
        let closes = [("peer_close".to_owned(), 1), ("reset".to_owned(), 5)];
        assert_eq!(report.closes(), closes.into());
    }

    #[test]
    fn a_text_without_the_number_of_connections_is_refused() {
        assert_eq!(ServerReport::parse("tidewheel_closes_total 1\n"), None);
        assert_eq!(ServerReport::parse(""), None);
    }
}
