//! A run of a scenario, from its start to its report.

pub(crate) mod error;
pub(crate) mod requirements;
pub(crate) mod standard_metrics;

use crate::{
    fleet::{Fleet, event::Opening, target::Target},
    host::limits::{Host, LayoutRequest},
    interrupt::Interrupt,
    measure::{
        clock::Clock,
        memory::Memory,
        socket_table::SocketTable,
        usage::{CpuTime, ProcessTime},
    },
    options::common::CommonOptions,
    progress::print_line,
    report::{
        Findings, Participants, Report, files::check_directory, status::Problem, summary::Summary,
    },
    run::{
        error::RunError,
        requirements::Requirements,
        standard_metrics::{SERVER_CPU, STARVATIONS},
    },
    server::{Server, connection_monitor::ConnectionMonitor},
    session::Session,
};

/// A run that is under way.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) clock: Clock,
    pub(crate) interrupt: Interrupt,
    pub(crate) server: Server,
    pub(crate) target: &'static Target,
    pub(crate) session: Session,
    /// Handshake by which a client opens a connection.
    pub(crate) opening: Opening,
    /// Number of clients of the session.
    pub(crate) clients: u32,
    /// Seed of all random choices.
    pub(crate) seed: u64,
    /// Memory before memory for clients was allocated.
    pub(crate) memory_before: Memory,
    /// Notes on the run, a sentence each.
    pub(crate) notes: Vec<String>,
}

/// Prepares a run, lets `scenario` measure, and makes the report.
///
/// # Errors
/// If there is no report.
pub(crate) fn execute(
    common: &CommonOptions,
    requirements: Requirements,
    interrupt: &Interrupt,
    scenario: impl FnOnce(&mut Run) -> Result<Findings, RunError>,
) -> Result<Report, RunError> {
    let clock = Clock::start();
    let started = clock.now();
    let baseline = common.baseline.as_deref().map(|path| {
        let baseline = Summary::read(path, requirements.scenario)?;
        baseline.check(path, &common.gates).map(|()| baseline)
    });
    let baseline = baseline.transpose()?;
    if let Some(directory) = &common.out {
        check_directory(directory)?;
    }
    let layout = Host::inspect()?.lay_out(&LayoutRequest {
        connections: common.connections,
        connections_default: requirements.connections,
        spread: common.target().map(|target| target.spread),
        shards: common.shards,
        is_secure: common.is_secure(),
    })?;
    if let Some(limit) = &layout.limited {
        print_line(format_args!(
            "only {} connections: {limit}",
            layout.connections
        ));
    }
    let tls = common.tls()?;
    let (server, target) = Server::start(
        common,
        requirements.service,
        requirements.deadlines,
        &layout,
        interrupt,
    )?;
    // The target lives as long as the process, so that all clients can refer to it.
    let target: &'static Target = Box::leak(Box::new(target));
    let seed = common.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    let clients = layout.connections;
    let memory_before = Memory::now(server.pid())?;
    let ring_capacity = layout.ring_capacity;
    let fleet = Fleet::new(
        clients,
        ring_capacity,
        target,
        tls,
        requirements.message_size,
        seed,
    )?;
    let mut run = Run {
        clock,
        interrupt: interrupt.clone(),
        server,
        target,
        session: Session::new(clock, interrupt.clone(), fleet, clients, common.timeout),
        opening: Opening::Upgrade {
            check_echo: !common.no_echo,
        },
        clients,
        seed,
        memory_before,
        notes: Vec::new(),
    };
    let report = scenario(&mut run).and_then(|findings| {
        run.session.release_all(clock.now())?;
        run.report(common, &requirements, findings, baseline)
    });
    if let Err(error) = &report
        && error.problem() == Problem::Interrupted
    {
        let (session, elapsed) = (&run.session, clock.now().since(started));
        print_line(format_args!(
            "interrupted {elapsed:.1?} after the start: {} connections were started, and {} of them \
             had ended",
            session.begun(),
            session.tally.total()
        ));
    }
    // A server with open connections would drain them until its close timeout.
    let sockets_closed = run.session.close_sockets().map_err(RunError::from);
    let stopped = run.server.stop().map_err(RunError::from);
    let mut report = report?;
    // A failure of the shutdown does not discard the report.
    for ended in [sockets_closed, stopped] {
        match ended {
            Ok(()) => {}
            Err(error) if error.problem() == Problem::Interrupted => return Err(error),
            Err(error) => report.fail(error.problem(), error.to_string()),
        }
    }
    Ok(report)
}

impl Run {
    /// Returns a monitor that reads the server's report, if it has one, and `table`.
    pub(crate) fn connection_monitor(&self, table: Option<SocketTable>) -> ConnectionMonitor {
        ConnectionMonitor::new(
            self.server.report.clone(),
            table.map(|table| (table, self.target.address.port())),
            self.clock,
            self.interrupt.clone(),
        )
    }

    /// Makes the report of the findings.
    fn report(
        &mut self,
        common: &CommonOptions,
        requirements: &Requirements,
        mut findings: Findings,
        baseline: Option<Summary>,
    ) -> Result<Report, RunError> {
        let ended = match &mut self.server.child {
            Some(child) => child.try_wait()?.is_some(),
            None => false,
        };
        let mut causes = Default::default();
        if !ended {
            let report = self.server.read_report()?;
            causes = report.closes();
            // A scenario that ends the server does not measure these.
            let is_measured = |name| requirements.names.kind(name).is_some();
            if let Some(starvations) = report.starvations()
                && is_measured(STARVATIONS)
            {
                findings.figures.count(STARVATIONS, starvations);
            }
            if let Some(pid) = self.server.pid()
                && is_measured(SERVER_CPU)
            {
                let time = ProcessTime::of(pid)?.running();
                findings.figures.seconds(SERVER_CPU, time);
            }
        }
        if let Some(sessions) = self.session.fleet.tls_sessions() {
            findings.settings.extend(sessions.settings());
            sessions.figures(&mut findings.figures);
        }
        let time = CpuTime::of_this_thread()?.running;
        findings.figures.seconds("generator.cpu_seconds", time);
        let participants = Participants {
            scenario: requirements.scenario,
            address: self.target.address,
            child: self.server.child.is_some(),
            process_id: self.server.pid(),
            cores: self.server.cores.as_ref().map(|cores| cores.numbers),
            causes,
            seed: self.seed,
            rings: self.session.fleet.rings(),
            has_url: common.url_is_given(),
            notes: std::mem::take(&mut self.notes),
        };
        Ok(Report::new(
            participants,
            findings,
            &self.session.tally,
            &common.gates,
            &requirements.names,
            baseline,
        ))
    }
}
