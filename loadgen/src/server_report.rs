//! What the server says about itself: its metrics, in the Prometheus text format.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use ureq::Agent;

/// A server that does not answer for so long is taken for dead.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks for the metrics, over one connection that stays.
#[derive(Debug)]
pub(crate) struct ReportReader {
    agent: Agent,
    url: String,
}

/// The server's counts at one moment: each metric, its shards summed up.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct ServerReport {
    metrics: BTreeMap<String, u64>,
    closes: BTreeMap<String, u64>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    /// The request failed.
    #[error(
        "no report from the server at {url}: {error}. --admin is the address of a tidewheel's admin \
         listener"
    )]
    Request {
        /// What was asked for.
        url: String,
        /// What went wrong.
        error: Box<ureq::Error>,
    },
    /// A metric is not there.
    #[error("the report of the server at {url} has no {metric}")]
    Missing {
        /// What was asked for.
        url: String,
        /// The metric.
        metric: &'static str,
    },
}

impl ReportReader {
    /// Reads from the admin listener at `address`.
    pub(crate) fn new(address: SocketAddr) -> Self {
        let agent = Agent::config_builder()
            .timeout_global(Some(ANSWER_TIMEOUT))
            .build()
            .new_agent();
        let url = format!("http://{address}/metrics");
        Self { agent, url }
    }

    /// What the server reports now.
    ///
    /// # Errors
    /// If it does not answer, or not with its metrics.
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
    /// Sums up the lines of each metric; `None` without a number of connections.
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

    /// Connections that hold a descriptor.
    pub(crate) fn connections(&self) -> u64 {
        self.metric(CONNECTIONS)
    }

    /// Opening handshakes that were completed so far.
    pub(crate) fn opens(&self) -> u64 {
        self.metric(OPENS)
    }

    /// Ends of what was opened so far.
    pub(crate) fn ends(&self) -> u64 {
        self.metric(CLOSES)
    }

    /// Receives that found no free buffer so far, if that is told.
    pub(crate) fn starvations(&self) -> Option<u64> {
        self.metrics.get(STARVATIONS).copied()
    }

    /// Ends of what was opened so far, by cause.
    pub(crate) fn closes(&self) -> BTreeMap<String, u64> {
        self.closes.clone()
    }
}

/// The value of the label `cause`.
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
    fn shards_are_summed_up() {
        let report = ServerReport::parse(TEXT).unwrap();
        assert_eq!((report.connections(), report.ends()), (12, 6));
        assert_eq!(report.opens(), 0);
        let closes = [("peer_close".to_owned(), 1), ("reset".to_owned(), 5)];
        assert_eq!(report.closes(), closes.into());
    }

    #[test]
    fn a_text_without_connections_is_no_report() {
        assert_eq!(ServerReport::parse("tidewheel_closes_total 1\n"), None);
        assert_eq!(ServerReport::parse(""), None);
    }
}
