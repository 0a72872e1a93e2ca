//! The close storm: all connections end at the same moment.

mod close;
mod departure;

use std::{io, time::Duration};

use tidewheel::ring::RingError;

use crate::{
    child::{ChildError, ChildServer},
    cli::{CloseStorm, Mode},
    clock::{Clock, Moment},
    fleet::{Behaviour, Fleet, Target},
    interrupt::{Interrupt, Interrupted},
    judgement::{Judgement, busy_share, generator_limit},
    latency::Distribution,
    limits::{self, Cores, Limit, ResetUnsupported},
    outcome::{Outcome, Tally},
    report::{
        CloseFigures, EmptiedFigures, GeneratorFigures, Report, ServerFigures, outcome_lines,
    },
    server_report::{ReportError, ReportReader, ServerReport},
    session::{Session, SessionError},
    usage::{CpuTime, ProcessTime, Usage, UsageMark, resident_bytes},
    watch::WatchError,
};

/// From here to the planned moment the server has time to come to rest.
const LEAD: Duration = Duration::from_millis(200);

/// The measured window starts so long after the resources used so far were read.
const MARK_LEAD: Duration = Duration::from_millis(5);

/// The deadlines of a child server in mode silent, where none were given.
const SILENT_DEADLINE: Duration = Duration::from_secs(1);

/// What a server may take beyond its deadlines to let go of silent clients.
const SILENT_SLACK: Duration = Duration::from_millis(800);

/// What a server may take to let go of reset clients.
const RESET_BOUND: Duration = Duration::from_secs(1);

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StormError {
    /// More connections than this host allows.
    #[error(transparent)]
    Limit(#[from] Limit),
    /// The kernel is too old for the mode.
    #[error(transparent)]
    Reset(#[from] ResetUnsupported),
    /// Nobody can tell what the server holds.
    #[error(
        "what the server at {0} holds cannot be known: it is not on this host, whose socket table \
         would tell. --mode close works with any server"
    )]
    Unknowable(std::net::SocketAddr),
    /// There is no ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The system does not do as it must.
    #[error(transparent)]
    System(#[from] io::Error),
    /// The server did not start, or not end.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// The server does not say what it holds.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// It is not known what the server holds.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The server holds fewer connections than the clients: it is another's report.
    #[error("{opened} connections are open, but the server's side shows {held:?}")]
    NotCovered {
        /// The clients that are open.
        opened: usize,
        /// What was read.
        held: crate::watch::Held,
    },
    /// The ring broke.
    #[error(transparent)]
    Session(SessionError),
    /// Ctrl-C.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl From<SessionError> for StormError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Interrupted(interrupted) => Self::Interrupted(interrupted),
            SessionError::Ring(_) => Self::Session(error),
        }
    }
}

/// The server under test.
#[derive(Debug)]
struct Server {
    child: Option<ChildServer>,
    report: Option<ReportReader>,
    cores: Option<Cores>,
}

/// What a mode has found.
#[derive(Debug)]
struct Findings {
    usage: Usage,
    lateness: Distribution,
    close: Option<CloseFigures>,
    emptied: Option<EmptiedFigures>,
    /// What failed, besides connections that ended otherwise than asked for.
    failures: Vec<String>,
}

/// Runs the storm.
///
/// # Errors
/// If there is nothing to report.
pub(crate) fn run(options: &CloseStorm, interrupt: &Interrupt) -> Result<Report, StormError> {
    let clock = Clock::start();
    let descriptors = limits::raise_descriptors()?;
    let connections =
        limits::connections(options.connections, descriptors, limits::local_ports()?)?;
    if let Some(limit) = &connections.limited {
        eprintln!("only {} connections: {limit}", connections.count);
    }
    if options.mode == Mode::Reset {
        limits::require_reset()?;
    }
    if let (Some(target), Mode::Reset | Mode::Silent) = (&options.url, options.mode)
        && !limits::is_local(target.address)
    {
        return Err(StormError::Unknowable(target.address));
    }
    let options = with_deadlines(options);
    let (server, target) = Server::start(&options, interrupt)?;
    let behaviour = Behaviour {
        check_echo: !options.no_echo,
        abortive: options.mode == Mode::Reset,
    };
    let count = connections.count;
    let fleet = Fleet::new(count, &target, behaviour)?;
    let mut session = Session::new(clock, interrupt.clone(), fleet, count);
    let report = measure(&options, &server, &target, &mut session, count);
    // A server that still has connections would drain them until its close timeout.
    session.hang_up()?;
    server.stop()?;
    report
}

/// Opens the connections, lets the mode do its work, and sums up.
fn measure(
    options: &CloseStorm,
    server: &Server,
    target: &Target,
    session: &mut Session<'_>,
    count: u32,
) -> Result<Report, StormError> {
    session.open_all(options.timeout)?;
    session.turn_until(session.clock.now() + LEAD)?;
    let resident_bytes = server.pid().map(resident_bytes).transpose()?;
    let before = server.read_report()?;
    let findings = match options.mode {
        Mode::Close => close::run(options, server, session)?,
        Mode::Reset => departure::reset(options, server, target, session)?,
        Mode::Silent => departure::silence(options, server, target, session)?,
    };
    session.release_all(session.clock.now())?;
    let after = server.read_report()?;
    let tally = &session.tally;
    assert_eq!(tally.total(), count, "each connection has one outcome");
    let cores = server.cores.as_ref().map(|cores| cores.numbers);
    let server_time = server.pid().map(ProcessTime::of).transpose()?;
    let judgement = judge(options.mode, tally, &findings);
    let usage = &findings.usage;
    let busy = usage.server.map(|time| busy_share(time, usage.window));
    Ok(Report {
        scenario: "close-storm",
        mode: options.mode,
        server: ServerFigures {
            address: target.address,
            child: server.child.is_some(),
            process_id: server.pid(),
            core: cores.map(|(server, _)| server),
            cpu_seconds: server_time.map(|time| time.running().as_secs_f64()),
            busy,
            resident_bytes,
            causes: after.closes_since(&before),
        },
        generator: GeneratorFigures::new(
            cores.map(|(_, generator)| generator),
            CpuTime::of_this_thread()?,
            usage,
            findings.lateness.percentiles(),
        ),
        connections: count,
        outcomes: Outcome::ALL
            .iter()
            .map(|&outcome| (outcome.key(), tally.count(outcome)))
            .collect(),
        outcome_lines: outcome_lines(tally),
        close: findings.close,
        emptied: findings.emptied,
        judgement,
    })
}

fn judge(mode: Mode, tally: &Tally, findings: &Findings) -> Judgement {
    let asked = match mode {
        Mode::Close => Outcome::Closed,
        Mode::Reset => Outcome::Reset,
        Mode::Silent => Outcome::LetGo,
    };
    let mut failures = findings.failures.clone();
    let otherwise = tally.total() - tally.count(asked);
    if otherwise > 0 {
        let total = tally.total();
        failures.push(format!(
            "{otherwise} of {total} connections ended otherwise than asked for"
        ));
    }
    let lateness = Duration::from_nanos(findings.lateness.percentiles().p99);
    let reported = match (&findings.close, &findings.emptied) {
        (Some(close), _) => {
            let fin = close.fin_nanos.corrected;
            (fin.count > 0).then_some(Duration::from_nanos(fin.p99))
        }
        (None, Some(emptied)) => emptied.seconds.map(Duration::from_secs_f64),
        (None, None) => None,
    };
    let invalid = match mode {
        Mode::Close => generator_limit(&findings.usage, lateness, reported),
        // A bound that is kept is kept, however late the generator was.
        Mode::Reset if failures.is_empty() => None,
        Mode::Reset => generator_limit(&findings.usage, lateness, reported),
        // The generator only waits.
        Mode::Silent => None,
    };
    Judgement::new(failures, invalid)
}

/// In mode silent a child server gets short deadlines.
fn with_deadlines(options: &CloseStorm) -> CloseStorm {
    let mut options = options.clone();
    if options.mode == Mode::Silent && options.url.is_none() {
        for deadline in [
            &mut options.ping_interval,
            &mut options.ping_timeout,
            &mut options.close_timeout,
        ] {
            deadline.get_or_insert(SILENT_DEADLINE);
        }
    }
    options
}

impl Server {
    /// Starts a child, unless a URL was given; gives where to connect to.
    fn start(options: &CloseStorm, interrupt: &Interrupt) -> Result<(Self, Target), StormError> {
        if let Some(target) = &options.url {
            let server = Self {
                child: None,
                report: None,
                cores: None,
            };
            return Ok((server, target.clone()));
        }
        let cores = Cores::pick()?;
        let child = ChildServer::start(options, cores.as_ref(), interrupt)?;
        let target = Target::at(child.address);
        let server = Self {
            report: Some(ReportReader::new(child.admin)),
            child: Some(child),
            cores,
        };
        Ok((server, target))
    }

    fn pid(&self) -> Option<i32> {
        self.child.as_ref().map(ChildServer::pid)
    }

    /// Its counts, all zero where it does not tell them.
    fn read_report(&self) -> Result<ServerReport, ReportError> {
        match &self.report {
            Some(report) => report.read(),
            None => Ok(ServerReport::default()),
        }
    }

    fn mark(&self, at: Moment) -> io::Result<UsageMark> {
        UsageMark::set(at, self.pid())
    }

    fn stop(self) -> Result<(), ChildError> {
        self.child.map_or(Ok(()), ChildServer::stop)
    }
}
