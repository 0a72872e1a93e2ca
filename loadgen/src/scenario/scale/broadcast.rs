//! Messages to all connections.

use tidewheel::ring::Wait;

use super::Options;
use crate::{
    error::RunError,
    feed::{Feed, Topology},
    figures::Figures,
    latency::Latency,
    progress::Progress,
    status::Failures,
    talk::Pace,
    trial::{SMALL, Trial},
};

/// To each connection, and to the last one of each message.
pub(super) const LATENCIES: [&str; 2] = ["broadcast", "last"];

/// Who publishes: nobody who is connected.
const PUBLISHER: u32 = 0;

/// Publishes to all connections, where the server can be asked to; each has a message before the
/// next is published. The latencies are from when the server is asked.
///
/// # Errors
/// If there is nothing to report.
pub(super) fn run(
    options: &Options,
    trial: &mut Trial,
    figures: &mut Figures,
    failures: &mut Failures,
) -> Result<[Latency; 2], RunError> {
    let Some(publisher) = &trial.server.publisher else {
        return Ok(LATENCIES.map(Latency::new));
    };
    let topology = Topology {
        clients: trial.clients,
        publishers: PUBLISHER + 1,
        topics: 1,
        sender_included: true,
    };
    let session = &mut trial.session;
    let pace = Pace::Closed;
    let mut feed = Feed::new(LATENCIES, topology, pace, SMALL, session, trial.seed);
    let mark = trial.server.mark(trial.clock.now())?;
    let mut now = trial.clock.now();
    let deliveries = u64::from(options.broadcasts) * u64::from(session.live());
    let mut progress = Progress::start("delivered", deliveries, now);
    for _ in 0..options.broadcasts {
        let publishing = publisher.publish(feed.next_message(PUBLISHER));
        feed.note_published(PUBLISHER, now, now);
        let limit = now + options.common.timeout;
        while feed.outstanding() > 0 && now < limit {
            now = feed.turn(session, Wait::For(limit.since(now)))?;
            progress.set(feed.counts().delivered, now);
        }
        publishing.finish()?;
    }
    let delivered = feed.counts().delivered;
    progress.finish(delivered, now);
    let usage = mark.until(&trial.server.mark(now)?);
    figures.count("broadcast.published", feed.counts().published);
    figures.count("broadcast.delivered", delivered);
    figures.rate("broadcast.rate", delivered, usage.window);
    figures.seconds("broadcast.server_cpu_seconds", usage.server_cpu);
    feed.failures(failures);
    Ok([feed.delivery, feed.last])
}
