//! Watches a server let go of its connections.

use std::{io, time::Duration};

use serde::Serialize;

use crate::{
    clock::{Clock, Moment},
    interrupt::{Interrupt, Interrupted},
    server_report::{ReportError, ReportReader},
    socket_table::{SocketCount, SocketTable},
};

/// Between two readings, at least.
const INTERVAL: Duration = Duration::from_millis(10);

/// So long after the last connection is gone, nothing of them is left in the kernel.
const ORPHANS_AFTER: Duration = Duration::from_millis(500);

/// From where it is known what a server holds: one of the two at least.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    /// Its own report.
    pub(crate) report: Option<&'a ReportReader>,
    /// The kernel's socket table, and the server's port.
    pub(crate) table: Option<(SocketTable, u16)>,
    pub(crate) clock: &'a Clock,
    pub(crate) interrupt: &'a Interrupt,
}

/// What a server holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
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

impl Watch<'_> {
    /// What the server holds now, by every source.
    ///
    /// # Errors
    /// If one of the sources does not tell.
    pub(crate) fn held(&mut self) -> Result<Held, WatchError> {
        Ok(Held {
            report: self.reported()?,
            sockets: self.count_sockets()?.map(|count| count.held),
        })
    }

    /// Whether no source shows anything. The kernel is asked only when the server has nothing
    /// more to report: to list all sockets takes it long.
    fn is_empty(&mut self) -> Result<bool, WatchError> {
        if self.reported()?.is_some_and(|connections| connections > 0) {
            return Ok(false);
        }
        Ok(self.count_sockets()?.is_none_or(|count| count.held == 0))
    }

    /// Reads until the server holds nothing; `None` if it still does at `limit`.
    ///
    /// # Errors
    /// If one of the sources does not tell.
    pub(crate) fn until_empty(
        &mut self,
        start: Moment,
        limit: Moment,
    ) -> Result<Option<Emptied>, WatchError> {
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
            // What a reading costs is taken from the server's core or its kernel's locks.
            self.interrupt.pause(INTERVAL.max(at.since(asked)))?;
        }
    }

    /// How many sockets the kernel still keeps for a peer half a second from now; `None` where
    /// its table has no part in this.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub(crate) fn orphans(&mut self) -> Result<Option<u32>, WatchError> {
        if self.table.is_none() {
            return Ok(None);
        }
        self.interrupt.pause(ORPHANS_AFTER)?;
        Ok(self.count_sockets()?.map(|count| count.orphans))
    }

    fn reported(&self) -> Result<Option<u64>, ReportError> {
        let report = self.report.map(ReportReader::read).transpose()?;
        Ok(report.map(|report| report.connections))
    }

    fn count_sockets(&mut self) -> Result<Option<SocketCount>, WatchError> {
        match &mut self.table {
            Some((table, port)) => Ok(Some(table.count(*port)?)),
            None => Ok(None),
        }
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
