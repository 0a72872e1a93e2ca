//! Acknowledgements of the peer's kernel as signs of life.

use std::time::Duration;

use super::{Connection, State};
use crate::time::Time;

/// Longest time until the peer's kernel acknowledges a ping or a Close, and largest difference of the
/// clocks involved.
const ACKNOWLEDGEMENT_DELAY_MAX: Duration = Duration::from_millis(100);

/// The bytes that the peer's kernel has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The time of the last acknowledgement.
    pub last: Time,
    /// Acknowledged bytes since the connection began.
    pub total: u64,
    /// Whether sent or queued bytes are not acknowledged yet.
    pub has_more: bool,
}

/// The condition for a later deadline at the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeadlineExtension {
    /// Any acknowledgement extends the deadline.
    AtFirst,
    /// The acknowledged bytes have to differ from `total`, which is counted modulo 2^32.
    After { total: u32 },
    /// The deadline is fixed: the peer did not answer a ping.
    Never,
}

impl DeadlineExtension {
    /// Returns whether the deadline moves now that the peer has acknowledged `total` bytes.
    ///
    /// A repeated acknowledgement has a later time, but the same total.
    fn extends(&mut self, total: u64) -> bool {
        let after = Self::After {
            total: total as u32,
        };
        let extends = *self != Self::Never && *self != after;
        if extends {
            *self = after;
        }
        extends
    }
}

impl Connection {
    /// Notes the acknowledgements of the peer's kernel.
    ///
    /// On an open connection, the last acknowledgement restarts the ping interval. On a closing one, the
    /// deadline moves to `close_by` if that is later and the peer has acknowledged more bytes, except
    /// after a ping timeout.
    ///
    /// If all bytes are acknowledged, an acknowledgement within 100 ms of a ping or a Close is ignored: a
    /// kernel acknowledges these frames for a program that hangs, too.
    pub fn note_acknowledged(&mut self, acknowledged: Acknowledged, close_by: Time) {
        let Acknowledged {
            last,
            total,
            has_more,
        } = acknowledged;
        let (deadline, extension) = match &mut self.state {
            State::Open { pinged, .. } => {
                let is_ping = !has_more
                    && last + ACKNOWLEDGEMENT_DELAY_MAX >= *pinged
                    && last <= *pinged + ACKNOWLEDGEMENT_DELAY_MAX;
                if !is_ping {
                    self.note_heard(last);
                }
                return;
            }
            State::Closing { closing, deadline } => (deadline, &mut closing.extension),
            State::Lingering {
                deadline,
                extension,
                ..
            } => (deadline, extension),
            State::AwaitingEof { .. } | State::Expired { .. } | State::Released { .. } => return,
        };
        let is_later =
            close_by > *deadline && (has_more || close_by > *deadline + ACKNOWLEDGEMENT_DELAY_MAX);
        if is_later && extension.extends(total) {
            *deadline = close_by;
        }
    }

    /// Returns the time until which sent bytes may still be delivered after a ping timeout, or `None` for
    /// any other end.
    #[must_use]
    pub fn close_by(&self) -> Option<Time> {
        match self.state {
            State::Released { close_by, .. } => close_by,
            State::Open { .. }
            | State::Closing { .. }
            | State::Lingering { .. }
            | State::AwaitingEof { .. }
            | State::Expired { .. } => None,
        }
    }
}
