//! The log of clients that `--host` or `--origin` refuses.

use std::time::Duration;

use tidewheel_codec::Time;

use crate::Request;

/// Shortest time between two lines of the log.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Logs refused clients, at most one in a second for each shard. A browser does not show the response to a page, so
/// the log has the reason.
#[derive(Debug, Default)]
pub(in crate::shard) struct RefusalLog {
    /// Time of the last line.
    logged: Option<Time>,
    /// Refused clients since the last line.
    others: u64,
}

impl RefusalLog {
    /// Logs a refused client, or counts it if the last line is too recent.
    pub(in crate::shard) fn note(&mut self, request: &Request<'_>, why: &str, now: Time) {
        if self
            .logged
            .is_some_and(|logged| now.since(logged) < LOG_INTERVAL)
        {
            self.others += 1;
            return;
        }
        self.logged = Some(now);
        tracing::warn!(
            target: "tidewheel::handshake",
            origin = request.origin(),
            host = request.host(),
            others = std::mem::take(&mut self.others),
            "{why}"
        );
    }
}

impl Drop for RefusalLog {
    /// Logs the number of clients that have no line.
    fn drop(&mut self) {
        if self.others > 0 {
            tracing::warn!(
                target: "tidewheel::handshake",
                others = self.others,
                "more clients were refused: --host or --origin does not list them"
            );
        }
    }
}
