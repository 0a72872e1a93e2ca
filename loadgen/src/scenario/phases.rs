//! Phases that several scenarios have.

use std::time::Duration;

use tidewheel::ring::Wait;
use tidewheel_codec::CloseCode;

use crate::{
    measure::{plan::Plan, usage::UsageMark},
    run::{Run, error::RunError},
    session::SessionError,
};

/// Idle time of the server before a measured window.
pub(super) const IDLE_BEFORE_WINDOW: Duration = Duration::from_millis(200);

/// Time from the reading of used resources to the start of the measured window.
const MARK_BEFORE_WINDOW: Duration = Duration::from_millis(5);

/// Largest number of connections that are closed at a time outside of a measurement.
const CLOSE_BATCH_MAX: usize = 1024;

/// Plans `count` events over `window`, and waits for the first of them. The server is idle meanwhile,
/// and the used resources are read shortly before the window starts.
pub(super) fn plan_window(
    run: &mut Run,
    window: Duration,
    count: u32,
) -> Result<(Plan, UsageMark), RunError> {
    let session = &mut run.session;
    let mark_at = session.clock.now() + IDLE_BEFORE_WINDOW;
    let plan = Plan::new(mark_at + MARK_BEFORE_WINDOW, window, count);
    session.turn_until(mark_at)?;
    let mark = run.server.mark(plan.start())?;
    run.session.fleet.forget_unread();
    run.session.turn_until(plan.start())?;
    Ok((plan, mark))
}

/// Closes all open clients with code 1000, in batches, and waits until they have ended.
pub(super) fn close_all(run: &mut Run) -> Result<(), SessionError> {
    let session = &mut run.session;
    let clients = session.open_clients();
    let mut now = session.clock.now();
    for batch in clients.chunks(CLOSE_BATCH_MAX) {
        for &client in batch {
            session
                .fleet
                .start_closing(client, CloseCode::NORMAL_CLOSURE, now);
        }
        let left = session.live().saturating_sub(batch.len() as u32);
        let limit = now + session.timeout;
        while session.live() > left && now < limit {
            now = session.turn(Wait::For(limit.since(now)))?;
        }
    }
    session.release_all(now + session.timeout)
}
