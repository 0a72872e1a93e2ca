//! Moves published messages from the fan-out into the send queue of a connection.

use super::Link;
use crate::{
    Handler,
    fanout::{ChainSegment, NONE, Published},
    outbox::{FAST_TIME, LONG_QUEUE_SHARE, Lane},
};

/// Whether published messages may wait for space in a send queue before the policy for slow consumers applies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Postpone {
    /// They may not wait, because another message is queued behind them.
    Never,
    /// They may wait for a later turn, if the last send was not short.
    UntilNextTurn,
    /// They may also wait while the peer reads. Most subscribers cannot keep up, so the publishers are too fast.
    /// The waiting messages stay in flight, which slows the publishers.
    WhilePeerReads,
}

/// The part of a chain that was queued.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Delivered {
    pub(crate) messages: usize,
    pub(crate) frame_bytes: usize,
}

impl<H: Handler> Link<'_, H> {
    /// Queues the messages of a chain. Returns the part that was queued.
    pub(crate) fn deliver(&mut self, chain: u32, postpone: Postpone) -> Delivered {
        let mut delivered = Delivered::default();
        let (slot, mut last_link) = (self.id.slot, NONE);
        for segment in self.fanout.segments(slot, chain) {
            let has_space = self.queue.held() + segment.frame_bytes <= self.limits.bytes_max;
            let is_stalled = self.queue.is_stalled();
            let can_wait = !has_space && !self.queue.is_empty() && self.protocol.is_open();
            match postpone {
                Postpone::UntilNextTurn | Postpone::WhilePeerReads if can_wait && !is_stalled => {
                    self.fanout.postpone(slot, chain, last_link);
                    return delivered;
                }
                // A policy that drops messages does not slow publishers.
                Postpone::UntilNextTurn | Postpone::WhilePeerReads
                    if is_stalled
                        && segment.may_close
                        && self.protocol.is_open()
                        && self.may_suspend(has_space, postpone) =>
                {
                    let retry_at = self.now + FAST_TIME;
                    self.fanout.suspend(slot, chain, last_link, retry_at);
                    return delivered;
                }
                Postpone::Never | Postpone::UntilNextTurn | Postpone::WhilePeerReads => {}
            }
            self.deliver_segment(&segment, !is_stalled);
            delivered.messages += segment.count as usize;
            delivered.frame_bytes += segment.frame_bytes;
            last_link = segment.end;
        }
        self.fanout.release(slot, chain);
        delivered
    }

    /// Returns whether the subscription of a stalled peer may be suspended: the peer reads fast, and its queue has
    /// no space; or the peer reads, its queue is long, and the publishers are too fast.
    fn may_suspend(&mut self, has_space: bool, postpone: Postpone) -> bool {
        let bytes_max = self.limits.bytes_max;
        let is_long = self.queue.held() >= bytes_max / LONG_QUEUE_SHARE;
        !has_space && self.queue.is_read_fast(bytes_max, self.now)
            || postpone == Postpone::WhilePeerReads && is_long && self.queue.is_read(self.now)
    }

    /// Queues the messages of a segment: as one run of frames if `together`, and else one by one, each with the
    /// policy of its topic.
    fn deliver_segment(&mut self, segment: &ChainSegment, together: bool) {
        if !self.protocol.is_open() {
            return;
        }
        let compressed = self.protocol.shares_compression(self.endpoint);
        let has_own_context = self.protocol.is_compressed() && !compressed;
        if together && !has_own_context {
            let chains = &mut self.fanout.chains;
            let frames = chains.joined(segment, compressed, self.endpoint);
            let lane = match segment.is_kept {
                true => Lane::Kept,
                false => Lane::Batch,
            };
            let length = frames.len();
            self.queue.push_shared(lane, frames, length);
            return self
                .protocol
                .note_sent(self.endpoint, segment.count, segment.payload_bytes);
        }
        for message in self.fanout.chains.messages(segment) {
            self.deliver_one(&message, compressed, has_own_context);
        }
    }

    /// Queues one published message with the policy of its topic.
    fn deliver_one(&mut self, message: &Published, compressed: bool, has_own_context: bool) {
        let policy = message.policy.unwrap_or(self.limits.policy);
        if !self.protocol.is_open() || self.make_space(policy, message.key()).is_err() {
            return;
        }
        let lane = self.lane(policy, message.key());
        if has_own_context {
            return self.encode(lane, |protocol, endpoint, out| {
                // Sending cannot fail, because the protocol is open.
                let _ = match std::str::from_utf8(message.payload()) {
                    Ok(text) if message.is_text() => protocol.send_text(endpoint, text, out),
                    _ => protocol.send_binary(endpoint, message.payload(), out),
                };
            });
        }
        let frame = if compressed {
            message.compressed(self.endpoint)
        } else {
            message.frame().clone()
        };
        let length = frame.len();
        self.queue.push_shared(lane, frame, length);
        self.protocol
            .note_sent(self.endpoint, 1, message.payload().len() as u64);
    }
}
