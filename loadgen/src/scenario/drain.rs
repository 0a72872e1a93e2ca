//! Drain: the server is told to end while it is under load.

mod restart;
mod returns;

use std::{io, process::ExitStatus, time::Duration};

use clap::Args;
use fastrand::Rng;
use tidewheel::cli::units::Span;
use tidewheel::ring::Wait;
use tidewheel_codec::CloseCode;

use crate::{
    child::{ChildServer, Service},
    cli::{Common, Deadlines, duration, rate, share},
    clock::Moment,
    error::RunError,
    figures::{Figures, Unit},
    fleet::Event,
    latency::Latency,
    names::{Counted, FigureNames, Names},
    outcome::{Asked, Outcome},
    plan::Plan,
    report::{Exposure, Findings, LATENESS},
    status::{Failures, Sign},
    talk::{Pace, Talk},
    trial::{Needs, SMALL, Trial},
    usage::UsageMark,
};

pub(crate) const ABOUT: &str = "\
Shut the server down under load, and measure how it ends its connections.

For --lead, --rate messages a second are sent and echoed. Then a share of the clients (--mute) \
stops answering, and the server gets SIGTERM. Measured from that moment: for each other client \
the time until the server's Close arrives (latency `goodbye`) and until its FIN arrives (latency \
`fin`), and the time until the server's process ends.

With --restart another server is started at the same address while the first one still ends, as \
in a deployment. Each client reconnects at a random moment within --back-within, and retries if \
it is refused. Messages are sent to either server meanwhile. Latency `outage` counts from the \
moment at which a client learns that its connection ends, to the moment at which it is connected \
again.

The run passes if each answering client gets Close 1001 and then FIN; each silent client's \
connection ends; the server exits with status 0 within close timeout + 0.8 s; and, with \
--restart, all clients reconnect. A child's close timeout is 2 s by default. Messages in flight \
may be lost. Because the server is shut down, it has to be a child (no --url) or started by \
--server-cmd.";

/// Connections where nothing else was said.
const CONNECTIONS: u32 = 1_000;

/// The close timeout of a child, where none was given.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a server may take beyond its close timeout.
const SLACK: Duration = Duration::from_millis(800);

/// How often it is looked whether the server has ended.
const RESOLUTION: Duration = Duration::from_millis(5);

/// The options of the drain.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = crate::cli::EXIT_STATUS)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

    /// Time for which messages are sent before SIGTERM
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1s")]
    lead: Duration,

    /// Messages to send in a second, over all clients
    #[arg(long, value_name = "N", value_parser = rate, default_value = "1000")]
    rate: u32,

    /// Share of the clients that stop answering before SIGTERM
    #[arg(long, value_name = "SHARE", value_parser = share, default_value = "50%")]
    mute: f64,

    /// Start another server at the same address, and let the clients reconnect to it
    #[arg(long)]
    restart: bool,

    /// Time within which the clients reconnect
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1s",
          requires = "restart")]
    back_within: Duration,
}

impl Options {
    /// Whether they make sense together.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !self.common.server_is_started() {
            return Err(
                "drain ends the server, and so needs one that is started here: leave --url out, or \
                 add --server-cmd"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// The number of `clients` that answer nothing any more.
    fn mute_of(&self, clients: usize) -> usize {
        (clients as f64 * self.mute).round() as usize
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("mute", format!("{:.0} %", self.mute * 100.0)),
            ("rate", format!("{}/s", self.rate)),
        ];
        if self.restart {
            settings.push(("back within", Span(self.back_within).to_string()));
        }
        settings
    }
}

const FIGURES: FigureNames = &[
    ("echo.messages", Unit::Count),
    ("echo.answered", Unit::Count),
    ("echo.cut_off", Unit::Count),
    ("drain.mute", Unit::Count),
    ("drain.bound_seconds", Unit::Seconds),
    ("drain.exit_seconds", Unit::Seconds),
];

const RESTART: FigureNames = &[
    ("restart.serving_seconds", Unit::Seconds),
    ("restart.back", Unit::Count),
    ("restart.refused", Unit::Count),
    ("restart.seconds", Unit::Seconds),
];

/// What a drain needs.
pub(crate) fn needs(options: &Options) -> Needs {
    let deadlines = options.common.deadlines;
    Needs {
        scenario: "drain",
        connections: CONNECTIONS,
        service: Service::Echo,
        deadlines: Deadlines {
            close_timeout: deadlines.close_timeout.or(Some(CLOSE_TIMEOUT)),
            ..deadlines
        },
        message_size: SMALL,
        names: names(options),
    }
}

fn names(options: &Options) -> Names {
    let common = &options.common;
    let connections = common.connections.unwrap_or(CONNECTIONS);
    let some_answer = options.mute_of(connections as usize) < connections as usize;
    let some_send = some_answer && (options.restart || !options.lead.is_zero());
    let names = Names::of_all(common)
        .latencies_if(some_send, Counted::Twice, &["echo"])
        .latencies_if(some_answer, Counted::Once, &["goodbye", "fin"])
        .latencies_if(options.restart, Counted::Once, &["outage"])
        .latencies_if(some_send, Counted::Once, &[LATENESS])
        .figures(FIGURES)
        .figures_if(options.restart, RESTART);
    match options.restart {
        true => names.server_end(common),
        false => names,
    }
}

/// Runs the drain.
///
/// # Errors
/// If there is nothing to report, or no child.
pub(crate) fn run(options: &Options, trial: &mut Trial) -> Result<Findings, RunError> {
    if trial.server.child.is_none() {
        return Err(RunError::NeedsChild("drain"));
    }
    trial.session.open_all(trial.approach)?;
    let mut clients = trial.session.open_clients();
    Rng::with_seed(trial.seed).shuffle(&mut clients);
    let mute = options.mute_of(clients.len());
    let (mute, answering) = clients.split_at(mute);
    let mut talk = Talk::new("echo", Pace::Open, trial.clients, 64, trial.seed);
    let messages = (f64::from(options.rate) * options.lead.as_secs_f64()) as u32;
    let plan = Plan::new(trial.clock.now(), options.lead, messages);
    if !answering.is_empty() {
        let session = &mut trial.session;
        talk.follow(session, answering, &plan, Duration::ZERO)?;
    }
    for &client in mute {
        trial.session.fleet.ask(client, Asked::Silence);
    }
    for &client in answering {
        let goodbye = Asked::Goodbye(CloseCode::GOING_AWAY);
        trial.session.fleet.ask(client, goodbye);
    }
    match options.restart {
        true => restart::run(options, trial, talk, answering, mute.len()),
        false => end(options, trial, talk, mute.len()),
    }
}

/// Ends the server, and waits for all that follows from it.
fn end(
    options: &Options,
    trial: &mut Trial,
    mut talk: Talk,
    mute: usize,
) -> Result<Findings, RunError> {
    let mut ending = Ending::begin(options, trial)?;
    let mut now = ending.at;
    let start = UsageMark::set(now, None, trial.server.generator_core())?;
    while now < ending.limit && (ending.exit.is_none() || trial.session.live() > 0) {
        let session = &mut trial.session;
        now = talk.turn(session, Wait::For(RESOLUTION), |_, _, event, _, now| {
            ending.note(event, now);
        })?;
        let child = trial.server.child.as_mut().expect("checked before");
        ending.look(child, trial.clock.now())?;
    }
    let usage = start.until(&UsageMark::set(now, None, trial.server.generator_core())?);
    let mut figures = Figures::default();
    let mut failures = Failures::default();
    ending.tell(&talk, mute, &mut figures, &mut failures);
    Ok(Findings {
        settings: options.settings(),
        asked: vec![Outcome::Dismissed, Outcome::LetGo],
        usage,
        lateness: talk.lateness,
        unread: None,
        latencies: vec![talk.echo, ending.goodbye, ending.fin],
        figures,
        failures,
        exposure: Exposure::Cpu,
    })
}

/// A server that has been told to end.
#[derive(Debug)]
struct Ending {
    /// When it was told.
    at: Moment,
    /// How long it may take, if that is known.
    bound: Option<Duration>,
    /// Nothing is waited for any longer.
    limit: Moment,
    /// When it ended, and how.
    exit: Option<(Moment, ExitStatus)>,
    /// Until its Close, and until its FIN.
    goodbye: Latency,
    fin: Latency,
}

impl Ending {
    /// Tells the child to end.
    fn begin(options: &Options, trial: &Trial) -> io::Result<Self> {
        let close_timeout = trial.server.deadlines.close_timeout;
        let bound = close_timeout.map(|timeout| timeout + SLACK);
        let at = trial.clock.now();
        let child = trial.server.child.as_ref().expect("checked before");
        child.terminate()?;
        Ok(Self {
            at,
            bound,
            limit: at + bound.unwrap_or_default() + options.common.timeout,
            exit: None,
            goodbye: Latency::new("goodbye"),
            fin: Latency::new("fin"),
        })
    }

    /// Writes down when a client has heard of it.
    fn note(&mut self, event: &Event, now: Moment) {
        match event {
            Event::CloseReceived { .. } => self.goodbye.record_planned(now, self.at),
            Event::Ended {
                outcome: Outcome::Dismissed,
                ..
            } => self.fin.record_planned(now, self.at),
            Event::Connected { .. }
            | Event::Opened { .. }
            | Event::Message { .. }
            | Event::Ended { .. }
            | Event::Released { .. } => {}
        }
    }

    /// Looks whether it has ended.
    fn look(&mut self, child: &mut ChildServer, now: Moment) -> io::Result<()> {
        if self.exit.is_none() {
            self.exit = child.try_wait()?.map(|status| (now, status));
        }
        Ok(())
    }

    /// What there is to tell, and what failed.
    fn tell(&self, talk: &Talk, mute: usize, figures: &mut Figures, failures: &mut Failures) {
        let counts = talk.counts();
        figures.count("echo.messages", counts.sent);
        figures.count("echo.answered", counts.answered);
        figures.count("echo.cut_off", counts.cut_off + talk.outstanding());
        figures.count("drain.mute", mute as u64);
        if let Some(bound) = self.bound {
            figures.seconds("drain.bound_seconds", bound);
        }
        match self.exit {
            None => failures.push("the server has not ended".to_owned()),
            Some((moment, status)) => {
                let after = moment.since(self.at);
                figures.seconds("drain.exit_seconds", after);
                if let Some(bound) = self.bound
                    && after > bound
                {
                    failures.push(format!(
                        "the server ended after {after:.1?}; the bound is {bound:.1?}"
                    ));
                }
                if !status.success() {
                    failures.push(format!("the server ended with {status}"));
                }
            }
        }
        if counts.altered + counts.out_of_order > 0 {
            let reason = "messages came back altered or out of order".to_owned();
            failures.add(Sign::MessagesWrong, reason);
        }
    }
}
