//! Watches a server let go of its connections.

use std::{fmt, io, time::Duration};

use crate::{
    clock::Moment,
    interrupt::Interrupted,
    server_report::{ReportError, ReportReader},
    socket_table::{SocketCount, SocketTable},
    trial::Trial,
};

/// Between two readings, at least.
const INTERVAL: Duration = Duration::from_millis(10);

/// So long after the last connection is gone, nothing of them is left in the kernel.
const ORPHANS_AFTER: Duration = Duration::from_millis(500);

/// From where it is known what a server holds: its own report if it has one, and the kernel's
/// socket table if that was opened.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The kernel's table, and the server's port.
    pub(crate) table: Option<(SocketTable, u16)>,
}

/// What a server holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Held {
    /// Connections, by its own report.
    pub(crate) report: Option<u64>,
    /// Sockets, by the kernel's table.
    pub(crate) sockets: Option<u32>,
}

/// When a server had let go of everything.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Emptied {
    /// The end of the first reading that showed nothing.
    pub(crate) at: Moment,
    /// From the start of the last reading that did show something to `at`.
    pub(crate) resolution: Duration,
}

/// Why it is not known what the server holds.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    /// The server does not say.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The kernel does not say.
    #[error("the kernel's socket table cannot be read (sock_diag): {0}")]
    Table(#[from] io::Error),
    /// The run was interrupted.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl Watch {
    /// What the server holds now, by every source.
    ///
    /// # Errors
    /// If one of the sources does not tell.
    pub(crate) fn held(&mut self, trial: &Trial) -> Result<Held, WatchError> {
        Ok(Held {
            report: reported(trial)?,
            sockets: self.count_sockets()?.map(|count| count.held),
        })
    }

    /// Whether no source shows anything. The kernel is asked only when the server has nothing
    /// more to report: to list all sockets takes it long.
    fn is_empty(&mut self, trial: &Trial) -> Result<bool, WatchError> {
        if reported(trial)?.is_some_and(|connections| connections > 0) {
            return Ok(false);
        }
        // One dump of the kernel's table may miss some while others change it.
        for _ in 0..2 {
            if self.count_sockets()?.is_some_and(|count| count.held > 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads until the server holds nothing; `None` if it still does at `limit`.
    ///
    /// # Errors
    /// If one of the sources does not tell.
    pub(crate) fn until_empty(
        &mut self,
        trial: &Trial,
        start: Moment,
        limit: Moment,
    ) -> Result<Option<Emptied>, WatchError> {
        let mut held_at = start;
        loop {
            let asked = trial.clock.now();
            let empty = self.is_empty(trial)?;
            let at = trial.clock.now();
            if empty {
                let resolution = at.since(held_at);
                return Ok(Some(Emptied { at, resolution }));
            }
            if at >= limit {
                return Ok(None);
            }
            held_at = asked;
            // What a reading costs is taken from the server's core or its kernel's locks.
            trial.interrupt.pause(INTERVAL.max(at.since(asked)))?;
        }
    }

    /// How many sockets the kernel still keeps for a peer half a second from now; `None` where
    /// its table has no part in this.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub(crate) fn orphans(&mut self, trial: &Trial) -> Result<Option<u32>, WatchError> {
        if self.table.is_none() {
            return Ok(None);
        }
        trial.interrupt.pause(ORPHANS_AFTER)?;
        Ok(self.count_sockets()?.map(|count| count.orphans))
    }

    /// The sources, as text.
    pub(crate) fn known_by(&self, trial: &Trial) -> String {
        let sources = [
            trial.server.report.as_ref().map(|_| "the server's report"),
            self.table.as_ref().map(|_| "the kernel's socket table"),
        ];
        let sources: Vec<_> = sources.into_iter().flatten().collect();
        sources.join(" and ")
    }

    fn count_sockets(&mut self) -> Result<Option<SocketCount>, WatchError> {
        match &mut self.table {
            Some((table, port)) => Ok(Some(table.count(*port)?)),
            None => Ok(None),
        }
    }
}

/// What the server says that it holds, if it says so.
fn reported(trial: &Trial) -> Result<Option<u64>, ReportError> {
    let report = trial.server.report.as_ref().map(ReportReader::read);
    Ok(report.transpose()?.map(|report| report.connections()))
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report.map(|held| format!("{held} by its report"));
        let sockets = self
            .sockets
            .map(|held| format!("{held} in the kernel's socket table"));
        let held: Vec<String> = report.into_iter().chain(sockets).collect();
        f.write_str(&held.join(" and "))
    }
}

impl Held {
    /// Whether every source shows at least `connections`: then it sees the server's.
    pub(crate) fn covers(self, connections: u32) -> bool {
        self.report
            .is_none_or(|held| held >= u64::from(connections))
            && self.sockets.is_none_or(|held| held >= connections)
    }
}
