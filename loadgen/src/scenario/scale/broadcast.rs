//! Messages that are published to all connections.

use std::time::Duration;

use tidewheel::ring::Wait;

use crate::{
    measure::{figures::Figures, latency::Latency},
    progress::Progress,
    report::status::Failures,
    run::{Run, error::RunError, requirements::MESSAGE_BYTES_DEFAULT},
    session::{deliveries::Deliveries, load_model::LoadModel, topology::Topology},
};

/// Names of the latencies to each connection, and to the last connection of each message.
pub(super) const LATENCIES: [&str; 2] = ["broadcast", "last"];

/// Number of the publisher, which is the admin listener and not a client.
const PUBLISHER: u32 = 0;

/// Publishes messages to all connections by a child's admin listener, one after the other is delivered.
/// The latencies are measured from the request to the admin listener.
///
/// # Errors
/// If there is no report.
pub(super) fn run(
    broadcasts: u32,
    timeout: Duration,
    run: &mut Run,
    figures: &mut Figures,
    failures: &mut Failures,
) -> Result<[Latency; 2], RunError> {
    let Some(publisher) = &run.server.publisher else {
        return Ok(LATENCIES.map(Latency::new));
    };
    let topology = Topology {
        clients: run.clients,
        publishers: PUBLISHER + 1,
        topics: 1,
        sender_included: true,
    };
    let session = &mut run.session;
    let load_model = LoadModel::ClosedLoop;
    let mut deliveries = Deliveries::new(
        LATENCIES,
        topology,
        load_model,
        MESSAGE_BYTES_DEFAULT,
        session,
        run.seed,
    );
    let mark = run.server.mark(run.clock.now())?;
    let mut now = run.clock.now();
    let expected = u64::from(broadcasts) * u64::from(session.live());
    let mut progress = Progress::start("delivered", expected, now);
    for _ in 0..broadcasts {
        let publishing = publisher.publish(deliveries.next_message(PUBLISHER));
        deliveries.record_published(PUBLISHER, now, now);
        let limit = now + timeout;
        while deliveries.outstanding() > 0 && now < limit {
            now = deliveries.turn(session, Wait::For(limit.since(now)))?;
            progress.set(deliveries.counts().delivered, now);
        }
        publishing.finish()?;
    }
    let delivered = deliveries.counts().delivered;
    progress.finish(delivered, now);
    let usage = mark.until(&run.server.mark(now)?);
    figures.count("broadcast.published", deliveries.counts().published);
    figures.count("broadcast.delivered", delivered);
    figures.rate("broadcast.rate", delivered, usage.window);
    figures.seconds("broadcast.server_cpu_seconds", usage.server_cpu);
    deliveries.failures(failures);
    Ok([deliveries.delivery, deliveries.last])
}
