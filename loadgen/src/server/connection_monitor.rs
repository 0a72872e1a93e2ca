//! Reads how many connections a server holds, and waits until it holds none.

use std::{fmt, io, time::Duration};

use crate::{
    interrupt::{Interrupt, Interrupted},
    measure::{
        clock::{Clock, Moment},
        socket_table::{SocketCount, SocketTable},
    },
    server::server_report::{ReportError, ReportReader},
};

/// Shortest time between two readings.
const READING_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Time after the last connection has gone at which the kernel may keep no socket of them.
const ORPHANS_AFTER: Duration = Duration::from_millis(500);

/// Reads the connections of a server from its report and from the kernel's socket table.
#[derive(Debug)]
pub(crate) struct ConnectionMonitor {
    /// The server's report, if it has one.
    report: Option<ReportReader>,
    /// The kernel's socket table and the server's port, if the table is read.
    table: Option<(SocketTable, u16)>,
    clock: Clock,
    interrupt: Interrupt,
}

/// Connections that a server holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct HeldConnections {
    /// Connections in the server's report.
    pub(crate) report: Option<u64>,
    /// Sockets in the kernel's table.
    pub(crate) sockets: Option<u32>,
}

/// The moment at which a server held no connection any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Emptied {
    /// End of the first reading that showed no connection.
    pub(crate) at: Moment,
    /// Time from the start of the last reading that showed a connection to `at`.
    pub(crate) resolution: Duration,
}

/// An error of a reading.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MonitorError {
    /// The server's report cannot be read.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The kernel's socket table cannot be read.
    #[error("the kernel's socket table cannot be read (sock_diag): {0}")]
    Table(#[from] io::Error),
    /// The run was interrupted.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl ConnectionMonitor {
    /// Reads `report`, and in `table` the sockets of a port.
    pub(crate) const fn new(
        report: Option<ReportReader>,
        table: Option<(SocketTable, u16)>,
        clock: Clock,
        interrupt: Interrupt,
    ) -> Self {
        Self {
            report,
            table,
            clock,
            interrupt,
        }
    }

    /// Reads the connections that the server holds now, from each source.
    ///
    /// # Errors
    /// If a source cannot be read.
    pub(crate) fn held(&mut self) -> Result<HeldConnections, MonitorError> {
        Ok(HeldConnections {
            report: self.reported()?,
            sockets: self.count_sockets()?.map(|count| count.held),
        })
    }

    /// Returns whether no source shows a connection. The kernel's table is read only when the
    /// server reports none, because the kernel takes long to list all sockets.
    fn is_empty(&mut self) -> Result<bool, MonitorError> {
        if self.reported()?.is_some_and(|connections| connections > 0) {
            return Ok(false);
        }
        // A dump of the table may miss sockets while the table changes, so it is read twice.
        for _ in 0..2 {
            if self.count_sockets()?.is_some_and(|count| count.held > 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads until the server holds no connection; returns `None` if it still does at `limit`.
    ///
    /// # Errors
    /// If a source cannot be read, or the run was interrupted.
    pub(crate) fn wait_until_empty(
        &mut self,
        start: Moment,
        limit: Moment,
    ) -> Result<Option<Emptied>, MonitorError> {
        let mut held_at = start;
        loop {
            let asked = self.clock.now();
            let empty = self.is_empty()?;
            let at = self.clock.now();
            if empty {
                let resolution = at.since(held_at);
                return Ok(Some(Emptied { at, resolution }));
            }
            if at >= limit {
                return Ok(None);
            }
            held_at = asked;
            // A reading takes time of the server's core, or locks of its kernel.
            self.interrupt
                .pause(READING_INTERVAL_MIN.max(at.since(asked)))?;
        }
    }

    /// Waits half a second, and counts the sockets that the kernel still keeps for a peer; returns
    /// `None` if the kernel's table is not read.
    ///
    /// # Errors
    /// If the kernel's table cannot be read, or the run was interrupted.
    pub(crate) fn orphans(&mut self) -> Result<Option<u32>, MonitorError> {
        if self.table.is_none() {
            return Ok(None);
        }
        self.interrupt.pause(ORPHANS_AFTER)?;
        Ok(self.count_sockets()?.map(|count| count.orphans))
    }

    /// Returns the sources as text.
    pub(crate) fn sources(&self) -> String {
        let sources = [
            self.report.as_ref().map(|_| "the server's report"),
            self.table.as_ref().map(|_| "the kernel's socket table"),
        ];
        let sources: Vec<_> = sources.into_iter().flatten().collect();
        sources.join(" and ")
    }

    /// Returns whether there is a source.
    pub(crate) const fn has_source(&self) -> bool {
        self.report.is_some() || self.table.is_some()
    }

    fn reported(&self) -> Result<Option<u64>, ReportError> {
        let report = self.report.as_ref().map(ReportReader::read);
        Ok(report.transpose()?.map(|report| report.connections()))
    }

    fn count_sockets(&mut self) -> Result<Option<SocketCount>, MonitorError> {
        match &mut self.table {
            Some((table, port)) => Ok(Some(table.count(*port)?)),
            None => Ok(None),
        }
    }
}

impl fmt::Display for HeldConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report.map(|held| format!("{held} by its report"));
        let sockets = self
            .sockets
            .map(|held| format!("{held} in the kernel's socket table"));
        let held: Vec<String> = report.into_iter().chain(sockets).collect();
        f.write_str(&held.join(" and "))
    }
}

impl HeldConnections {
    /// Returns whether each source shows at least `connections`, as it must if it is about the
    /// server under test.
    pub(crate) fn covers(self, connections: u32) -> bool {
        self.report
            .is_none_or(|held| held >= u64::from(connections))
            && self.sockets.is_none_or(|held| held >= connections)
    }
}
