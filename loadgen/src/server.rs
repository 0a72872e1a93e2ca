//! The server under test: a child process, or the server at a URL.

pub(crate) mod child;
pub(crate) mod connection_monitor;
pub(crate) mod launch;
pub(crate) mod publisher;
pub(crate) mod server_report;
pub(crate) mod service;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use crate::{
    fleet::target::Target,
    host::{cores::Cores, limits::Layout},
    interrupt::Interrupt,
    measure::{
        clock::Moment,
        syscalls::{SyscallCounter, SyscallError},
        usage::{UsageMark, softirq_thread},
    },
    options::{common::CommonOptions, deadlines::Deadlines},
    report::status::Problem,
    server::{
        child::{ChildError, ChildServer},
        launch::{ChildSettings, Launch},
        publisher::Publisher,
        server_report::{ReportError, ReportReader, ServerReport},
        service::Service,
    },
};

/// Returns whether the kernel's network thread of the server's core (`ksoftirqd`) is visible in proc(5).
pub(crate) fn softirq_thread_is_visible() -> bool {
    let cores = Cores::pick().ok().flatten();
    cores
        .and_then(|cores| softirq_thread(cores.numbers.0))
        .is_some()
}

/// The server under test.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) child: Option<ChildServer>,
    pub(crate) report: Option<ReportReader>,
    /// The way to start the process again.
    launch: Option<Launch>,
    /// Publisher to all connections of the child.
    pub(crate) publisher: Option<Publisher>,
    /// The cores of the server and of the generator.
    pub(crate) cores: Option<Cores>,
    /// Id of the kernel's network thread of the server's core.
    softirqs: Option<i32>,
    /// Counter of the server's system calls, if they are counted.
    syscalls: Option<SyscallCounter>,
    /// Deadlines of the server that are known.
    pub(crate) deadlines: Deadlines,
}

/// An error of the start of the server under test.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    /// The process does not start.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// The server's report cannot be read.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The server's system calls cannot be counted.
    #[error(transparent)]
    Syscalls(#[from] SyscallError),
    /// The cores of this host cannot be read.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl ServerError {
    /// Returns the problem for the exit status: a fault of the server, or of this host.
    pub(crate) const fn problem(&self) -> Problem {
        match self {
            Self::Child(ChildError::Interrupted(_)) => Problem::Interrupted,
            Self::Child(_) | Self::Report(_) => Problem::ServerFault,
            Self::Syscalls(_) | Self::System(_) => Problem::Unable,
        }
    }
}

impl Server {
    /// Starts a child, or the command of `--server-cmd`, or neither; returns the target of connections.
    ///
    /// # Errors
    /// If the process does not start, or its report or its system calls cannot be read.
    pub(crate) fn start(
        common: &CommonOptions,
        service: Service,
        deadlines: Deadlines,
        layout: &Layout,
        interrupt: &Interrupt,
    ) -> Result<(Self, Target), ServerError> {
        let (mut server, target) = Self::find(common, service, deadlines, layout, interrupt)?;
        if common.admin.is_some() {
            // An unreadable report ends the run before it starts.
            server.read_report()?;
        }
        if common.count_syscalls {
            server.count_syscalls()?;
        }
        Ok((server, target))
    }

    /// Starts the process, and finds the target of connections.
    fn find(
        common: &CommonOptions,
        service: Service,
        deadlines: Deadlines,
        layout: &Layout,
        interrupt: &Interrupt,
    ) -> Result<(Self, Target), ServerError> {
        let mut server = Self {
            child: None,
            report: common.admin.map(ReportReader::new),
            launch: None,
            publisher: None,
            cores: None,
            softirqs: None,
            syscalls: None,
            deadlines: common.deadlines,
        };
        if let Some(mut target) = common.target() {
            target.topics = service.topics();
            if let Some(command) = &common.server_cmd {
                server.reserve_cores()?;
                let launch = Launch::Command {
                    command: command.clone(),
                    address: target.address,
                    timeout: common.timeout,
                };
                let cores = server.cores.as_ref();
                server.child = Some(ChildServer::start(&launch, cores, interrupt)?);
                server.launch = Some(launch);
            }
            return Ok((server, target));
        }
        server.reserve_cores()?;
        let token = match service {
            Service::Broadcast => Some(format!("{:032x}", fastrand::u128(..))),
            Service::Echo | Service::Topics { .. } => None,
        };
        // To have several addresses, the child listens on all addresses of this host.
        let ip = if layout.spread > 1 {
            Ipv4Addr::UNSPECIFIED
        } else {
            Ipv4Addr::LOCALHOST
        };
        let plan = ChildSettings {
            listen: SocketAddr::from((ip, 0)),
            shards: layout.shards,
            service,
            publish_token: token,
            deadlines,
        };
        let launch = Launch::Child(plan);
        let child = ChildServer::start(&launch, server.cores.as_ref(), interrupt)?;
        let target = Target {
            spread: layout.spread,
            path: service.path().to_owned(),
            topics: service.topics(),
            ..Target::at(SocketAddr::from(([127, 0, 0, 1], child.address.port())))
        };
        server.launch = Some(launch.at(child.address));
        server.adopt(child);
        server.deadlines = deadlines;
        Ok((server, common.with_request(target)))
    }

    /// Makes `child`, which is ready, the current process.
    fn adopt(&mut self, child: ChildServer) {
        if let Some(Launch::Child(plan)) = &self.launch {
            self.report = child.admin.map(ReportReader::new);
            let publisher = child.admin.zip(plan.publish_token.as_ref());
            self.publisher = publisher.map(|(admin, token)| Publisher::new(admin, token));
        }
        self.child = Some(child);
    }

    /// Reserves a core for the server and one for the generator.
    fn reserve_cores(&mut self) -> io::Result<()> {
        self.cores = Cores::pick()?;
        let core = self.cores.as_ref().map(|cores| cores.numbers.0);
        self.softirqs = core.and_then(softirq_thread);
        Ok(())
    }

    fn count_syscalls(&mut self) -> Result<(), SyscallError> {
        self.syscalls = self.pid().map(SyscallCounter::start).transpose()?;
        Ok(())
    }

    /// Returns the process id of the server, if it was started here.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.child.as_ref().map(ChildServer::pid)
    }

    /// Returns the generator's core, if one is reserved.
    pub(crate) fn generator_core(&self) -> Option<usize> {
        self.cores.as_ref().map(|cores| cores.numbers.1)
    }

    /// Reads the server's report; all counts are zero if it has none.
    ///
    /// # Errors
    /// If the report cannot be read.
    pub(crate) fn read_report(&self) -> Result<ServerReport, ReportError> {
        match &self.report {
            Some(report) => report.read(),
            None => Ok(ServerReport::default()),
        }
    }

    /// Reads the resources used so far, as the start or the end of a window.
    ///
    /// # Errors
    /// Errors of proc(5).
    pub(crate) fn mark(&self, at: Moment) -> io::Result<UsageMark> {
        let mut mark = UsageMark::set(at, self.pid(), self.generator_core())?;
        if let Some(id) = self.softirqs {
            mark = mark.with_softirqs(id)?;
        }
        if let Some(counter) = &self.syscalls {
            mark = mark.with_syscalls(counter.read()?);
        }
        Ok(mark)
    }

    /// Starts a successor at the same address without waiting until it is ready. It fails as long as
    /// its predecessor listens there.
    ///
    /// # Errors
    /// If the process does not start.
    ///
    /// # Panics
    /// If the server was not started here.
    pub(crate) fn spawn_successor(&self) -> Result<ChildServer, ChildError> {
        let launch = self.launch.as_ref().expect("the server was started here");
        ChildServer::spawn(launch, self.cores.as_ref())
    }

    /// Makes `successor`, which is ready, the current process, and returns its predecessor.
    ///
    /// # Panics
    /// If the server was not started here.
    pub(crate) fn replace_child(&mut self, successor: ChildServer) -> ChildServer {
        let child = self.child.take().expect("the server was started here");
        self.adopt(successor);
        child
    }

    /// Ends the process, if the server was started here.
    ///
    /// # Errors
    /// Errors of [`ChildServer::stop`].
    pub(crate) fn stop(self) -> Result<(), ChildError> {
        self.child.map_or(Ok(()), ChildServer::stop)
    }
}
