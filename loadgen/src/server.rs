//! The server under test: a child, or whoever listens at a URL.

use std::{io, net::SocketAddr};

use crate::{
    child::{ChildError, ChildPlan, ChildServer},
    cli::{Common, Deadlines},
    clock::Moment,
    error::RunError,
    fleet::Target,
    interrupt::Interrupt,
    limits::{Cores, Layout},
    server_report::{ReportError, ReportReader, ServerReport},
    usage::UsageMark,
};

/// The server under test.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) child: Option<ChildServer>,
    pub(crate) report: Option<ReportReader>,
    /// The cores of the server and of the generator.
    pub(crate) cores: Option<Cores>,
    /// What it is set to, as far as that is known.
    pub(crate) deadlines: Deadlines,
}

impl Server {
    /// Starts a child, unless a URL was given; gives where to connect to.
    ///
    /// # Errors
    /// If it does not start.
    pub(crate) fn start(
        common: &Common,
        deadlines: Deadlines,
        layout: &Layout,
        interrupt: &Interrupt,
    ) -> Result<(Self, Target), RunError> {
        let mut server = Self {
            child: None,
            report: common.admin.map(ReportReader::new),
            cores: None,
            deadlines: common.deadlines,
        };
        if let Some(target) = common.target() {
            if let Some(command) = &common.server_cmd {
                server.cores = Cores::pick()?;
                let cores = server.cores.as_ref();
                let child = ChildServer::start_command(command, target.address, cores, interrupt)?;
                server.child = Some(child);
            }
            return Ok((server, target));
        }
        server.cores = Cores::pick()?;
        let plan = ChildPlan {
            shards: layout.shards,
            any_address: layout.spread > 1,
            deadlines,
        };
        let child = ChildServer::start(&plan, server.cores.as_ref(), interrupt)?;
        let target = Target {
            spread: layout.spread,
            ..Target::at(SocketAddr::from(([127, 0, 0, 1], child.address.port())))
        };
        server.report = child.admin.map(ReportReader::new);
        server.child = Some(child);
        server.deadlines = deadlines;
        Ok((server, common.with_request(target)))
    }

    /// The process id of a child.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.child.as_ref().map(ChildServer::pid)
    }

    /// Its counts, all zero where it does not tell them.
    ///
    /// # Errors
    /// If it should tell them and does not.
    pub(crate) fn read_report(&self) -> Result<ServerReport, ReportError> {
        match &self.report {
            Some(report) => report.read(),
            None => Ok(ServerReport::default()),
        }
    }

    /// Marks what was used up to now, as the start or the end of a window.
    ///
    /// # Errors
    /// Those of proc(5).
    pub(crate) fn mark(&self, at: Moment) -> io::Result<UsageMark> {
        UsageMark::set(at, self.pid())
    }

    /// Ends a child.
    ///
    /// # Errors
    /// If it failed.
    pub(crate) fn stop(self) -> Result<(), ChildError> {
        self.child.map_or(Ok(()), ChildServer::stop)
    }
}

impl Target {
    /// The root of the server at `address`.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self {
            address,
            spread: 1,
            name: None,
            host: address.to_string(),
            path: "/".to_owned(),
            headers: Vec::new(),
            protocol: None,
        }
    }
}
