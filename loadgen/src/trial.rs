//! A run from its start to its report: what all scenarios have in common.

use crate::{
    child::Service,
    cli::{Common, Deadlines},
    clock::Clock,
    error::RunError,
    fleet::{Approach, Fleet, Target},
    interrupt::Interrupt,
    limits::Layout,
    memory::Memory,
    names::{Names, SERVER_CPU, STARVATIONS},
    progress::say,
    report::{Findings, Parties, Report, check_directory},
    server::Server,
    session::Session,
    status::Sign,
    summary::Summary,
    usage::{CpuTime, ProcessTime},
};

/// Messages are small where nothing else is said.
pub(crate) const SMALL: usize = 64;

/// What a scenario needs before it starts.
#[derive(Clone, Debug)]
pub(crate) struct Needs {
    /// Its name on the command line.
    pub(crate) scenario: &'static str,
    /// Connections where none were asked for.
    pub(crate) connections: u32,
    /// What the server does with messages.
    pub(crate) service: Service,
    /// The deadlines of a child.
    pub(crate) deadlines: Deadlines,
    /// The usual size of a message, in bytes.
    pub(crate) message_size: usize,
    /// The things that it measures.
    pub(crate) names: Names,
}

/// A run that is under way.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) clock: Clock,
    pub(crate) interrupt: Interrupt,
    pub(crate) server: Server,
    pub(crate) target: &'static Target,
    pub(crate) session: Session,
    /// How a client opens a connection.
    pub(crate) approach: Approach,
    /// Clients of the session.
    pub(crate) clients: u32,
    /// What all that is random follows from.
    pub(crate) seed: u64,
    /// Memory before there was anything for a client, on any side.
    pub(crate) memory_before: Memory,
    /// Notes on the run, a sentence each.
    pub(crate) notes: Vec<String>,
}

/// Provides for a scenario, lets it run, and sums up.
///
/// # Errors
/// If there is nothing to report.
pub(crate) fn conduct(
    common: &Common,
    needs: Needs,
    interrupt: &Interrupt,
    run: impl FnOnce(&mut Trial) -> Result<Findings, RunError>,
) -> Result<Report, RunError> {
    let clock = Clock::start();
    let began = clock.now();
    let baseline = common.baseline.as_deref().map(|path| {
        let baseline = Summary::read(path, needs.scenario)?;
        baseline.check(path, &common.gates).map(|()| baseline)
    });
    let baseline = baseline.transpose()?;
    if let Some(directory) = &common.out {
        check_directory(directory)?;
    }
    let layout = Layout::plan(common, needs.connections)?;
    if let Some(limit) = &layout.limited {
        say(format_args!(
            "only {} connections: {limit}",
            layout.connections
        ));
    }
    let tls = common.tls()?;
    let (server, target) = Server::start(common, &needs, &layout, interrupt)?;
    // There is one for the life of the process, and everything refers to it.
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
        needs.message_size,
        seed,
    )?;
    let mut trial = Trial {
        clock,
        interrupt: interrupt.clone(),
        server,
        target,
        session: Session::new(clock, interrupt.clone(), fleet, clients, common.timeout),
        approach: Approach::Upgrade {
            check_echo: !common.no_echo,
        },
        clients,
        seed,
        memory_before,
        notes: Vec::new(),
    };
    let report = run(&mut trial).and_then(|findings| {
        trial.session.release_all(clock.now())?;
        trial.sum_up(common, &needs, findings, baseline)
    });
    if let Err(error) = &report
        && error.sign() == Sign::Interrupted
    {
        let (session, passed) = (&trial.session, clock.now().since(began));
        say(format_args!(
            "interrupted {passed:.1?} after the start: {} connections were begun, and {} of them had \
             ended",
            session.begun(),
            session.tally.total()
        ));
    }
    // A server that still has connections would drain them until its close timeout.
    let hung_up = trial.session.hang_up().map_err(RunError::from);
    let stopped = trial.server.stop().map_err(RunError::from);
    let mut report = report?;
    // What was measured before is told all the same.
    for ended in [hung_up, stopped] {
        match ended {
            Ok(()) => {}
            Err(error) if error.sign() == Sign::Interrupted => return Err(error),
            Err(error) => report.fail(error.sign(), error.to_string()),
        }
    }
    Ok(report)
}

impl Trial {
    fn sum_up(
        &mut self,
        common: &Common,
        needs: &Needs,
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
            // A server that should have ended is not measured.
            let is_told = |name| needs.names.meaning(name).is_some();
            if let Some(starvations) = report.starvations()
                && is_told(STARVATIONS)
            {
                findings.figures.count(STARVATIONS, starvations);
            }
            if let Some(pid) = self.server.pid()
                && is_told(SERVER_CPU)
            {
                let time = ProcessTime::of(pid)?.running();
                findings.figures.seconds(SERVER_CPU, time);
            }
        }
        if let Some(secure) = self.session.fleet.secure() {
            findings.settings.extend(secure.settings());
            secure.figures(&mut findings.figures);
        }
        let time = CpuTime::of_this_thread()?.running;
        findings.figures.seconds("generator.cpu_seconds", time);
        let parties = Parties {
            scenario: needs.scenario,
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
            parties,
            findings,
            &self.session.tally,
            &common.gates,
            &needs.names,
            baseline,
        ))
    }
}
