//! The server under test: a child, or whoever listens at a URL.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use crate::{
    child::{ChildError, ChildPlan, ChildServer, Launch, Service},
    cli::{Common, Deadlines},
    clock::Moment,
    error::RunError,
    fleet::Target,
    interrupt::Interrupt,
    limits::{Cores, Layout},
    publisher::Publisher,
    server_report::{ReportError, ReportReader, ServerReport},
    syscalls::{SyscallCounter, SyscallError},
    trial::Needs,
    usage::{UsageMark, softirq_thread},
};

/// Whether the kernel's thread for the network on the server's core can be seen from here.
pub(crate) fn softirqs_are_visible() -> bool {
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
    /// How a child is started once more.
    launch: Option<Launch>,
    /// Publishes to all connections, where that is asked for.
    pub(crate) publisher: Option<Publisher>,
    /// The cores of the server and of the generator.
    pub(crate) cores: Option<Cores>,
    /// The kernel's thread for the network on the server's core.
    softirqs: Option<i32>,
    /// Counts the system calls of a child, where that is asked for.
    syscalls: Option<SyscallCounter>,
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
        needs: &Needs,
        layout: &Layout,
        interrupt: &Interrupt,
    ) -> Result<(Self, Target), RunError> {
        let (mut server, target) = Self::found(common, needs, layout, interrupt)?;
        if common.admin.is_some() {
            // What it does not tell now it does not tell after the run.
            server.read_report()?;
        }
        if common.count_syscalls {
            server.count_syscalls()?;
        }
        Ok((server, target))
    }

    fn found(
        common: &Common,
        needs: &Needs,
        layout: &Layout,
        interrupt: &Interrupt,
    ) -> Result<(Self, Target), RunError> {
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
            target.topics = needs.service.topics();
            if let Some(command) = &common.server_cmd {
                server.take_cores()?;
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
        server.take_cores()?;
        let token = match needs.service {
            Service::Broadcast => Some(format!("{:032x}", fastrand::u128(..))),
            Service::Echo | Service::Topics { .. } => None,
        };
        // To have several addresses, it listens on all of this host.
        let ip = if layout.spread > 1 {
            Ipv4Addr::UNSPECIFIED
        } else {
            Ipv4Addr::LOCALHOST
        };
        let plan = ChildPlan {
            listen: SocketAddr::from((ip, 0)),
            shards: layout.shards,
            service: needs.service,
            publish_token: token,
            deadlines: needs.deadlines,
        };
        let launch = Launch::Ours(plan);
        let child = ChildServer::start(&launch, server.cores.as_ref(), interrupt)?;
        let target = Target {
            spread: layout.spread,
            path: needs.service.path().to_owned(),
            topics: needs.service.topics(),
            ..Target::at(SocketAddr::from(([127, 0, 0, 1], child.address.port())))
        };
        server.launch = Some(launch.at(child.address));
        server.take(child);
        server.deadlines = needs.deadlines;
        Ok((server, common.with_request(target)))
    }

    /// Looks after `child`, which is ready.
    fn take(&mut self, child: ChildServer) {
        if let Some(Launch::Ours(plan)) = &self.launch {
            self.report = child.admin.map(ReportReader::new);
            let publisher = child.admin.zip(plan.publish_token.as_ref());
            self.publisher = publisher.map(|(admin, token)| Publisher::new(admin, token));
        }
        self.child = Some(child);
    }

    fn take_cores(&mut self) -> io::Result<()> {
        self.cores = Cores::pick()?;
        let core = self.cores.as_ref().map(|cores| cores.numbers.0);
        self.softirqs = core.and_then(softirq_thread);
        Ok(())
    }

    fn count_syscalls(&mut self) -> Result<(), SyscallError> {
        self.syscalls = self.pid().map(SyscallCounter::start).transpose()?;
        Ok(())
    }

    /// The process id of a child.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.child.as_ref().map(ChildServer::pid)
    }

    /// The generator's core, if it has one of its own.
    pub(crate) fn generator_core(&self) -> Option<usize> {
        self.cores.as_ref().map(|cores| cores.numbers.1)
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
        let mut mark = UsageMark::set(at, self.pid(), self.generator_core())?;
        if let Some(id) = self.softirqs {
            mark = mark.with_softirqs(id)?;
        }
        if let Some(counter) = &self.syscalls {
            mark = mark.with_syscalls(counter.read()?);
        }
        Ok(mark)
    }

    /// Starts a child once more, at the same address, and does not wait until it is ready; until
    /// the one before has stopped to listen there, it fails.
    ///
    /// # Errors
    /// If there is no process.
    ///
    /// # Panics
    /// If there was no child.
    pub(crate) fn spawn_successor(&self) -> Result<ChildServer, ChildError> {
        let launch = self.launch.as_ref().expect("there was a child");
        ChildServer::spawn(launch, self.cores.as_ref())
    }

    /// Puts `successor`, which is ready, in the place of the child, and gives that one.
    ///
    /// # Panics
    /// If there was no child.
    pub(crate) fn succeed(&mut self, successor: ChildServer) -> ChildServer {
        let child = self.child.take().expect("there was a child");
        self.take(successor);
        child
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
            topics: 1,
            headers: Vec::new(),
            protocol: None,
        }
    }
}
