//! The connection as a handler sees it.

use std::fmt;

use tidewheel_codec::{Cause, CloseCode, Connection as Protocol, Endpoint, Time};

use crate::{
    ConnectionId, Outgoing, SlowConsumer, TopicError,
    fanout::{ChainSegment, Fanout, NONE, Pressure, Published},
    outbox::{FAST_TIME, LONG_QUEUE_SHARE, Lane, Queue, SendLimits},
};

/// What messages to one connection alone have in common, in place of a topic.
const UNICAST: u64 = 0;

/// One connection, lent to a callback.
pub struct Conn<'a, S> {
    pub(crate) id: ConnectionId,
    pub(crate) now: Time,
    pub(crate) protocol: &'a mut Protocol,
    pub(crate) state: &'a mut S,
    pub(crate) queue: &'a mut Queue,
    pub(crate) endpoint: &'a mut Endpoint,
    pub(crate) fanout: &'a mut Fanout,
    pub(crate) limits: SendLimits,
}

/// Whether what was published may wait for room in a send queue, before the policy for slow consumers
/// applies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Postpone {
    /// It may not: something else is to be sent behind it.
    None,
    /// Until another turn, if the socket was not asked yet whether it takes more.
    Turn,
    /// And while the peer reads: most subscribers cannot keep up, so the publishers are too fast, and
    /// not this peer too slow. Meanwhile the messages are under way, so publishers wait, too.
    Crowd,
}

/// What of a chain a connection has got.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Delivered {
    pub(crate) messages: usize,
    pub(crate) frame_bytes: usize,
}

/// Why a message is not published.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// There is no such topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// A shard with subscribers has used up its memory for published messages.
    #[error("too many published messages wait for delivery: try again later")]
    Busy,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a message that was dropped, or that waits, may matter"]
pub enum Sent {
    /// Nothing waited before it: it leaves at the end of this turn.
    Sent,
    /// It waits behind others.
    Queued {
        /// Bytes that wait now, this message included.
        bytes: usize,
    },
    /// The peer reads too slowly, and there is nothing older to drop, or the policy is not to.
    Dropped,
    /// The connection is closing, or has just been closed because the peer reads too slowly.
    Closed,
}

impl<S> Conn<'_, S> {
    /// Which connection this is.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// What the application keeps for it.
    pub fn state(&mut self) -> &mut S {
        self.state
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.queue.unsent()
    }

    /// Whether messages can be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.protocol.is_open()
    }

    /// Sends a message: `&str` as text, `&[u8]` as binary, a received [`Message`](crate::Message) as it came.
    ///
    /// All that is sent in one turn leaves in one send. A message is taken while less than
    /// [`Config::max_send_queue`](crate::Config::max_send_queue) bytes wait, with what it costs to
    /// keep them; beyond, the policy for [slow consumers](SlowConsumer) decides.
    pub fn send<'m>(&mut self, message: impl Into<Outgoing<'m>>) -> Sent {
        let message = message.into();
        if !self.protocol.is_open() {
            return Sent::Closed;
        }
        // What was published before comes first.
        self.fanout.catch_up(self.id.slot);
        let chain = self.fanout.take_chain(self.id.slot);
        if chain != NONE {
            self.deliver(chain, Postpone::Never);
        }
        let policy = self.limits.policy;
        if let Err(refused) = self.make_room(policy, UNICAST) {
            return refused;
        }
        let waiting = self.queue.unsent();
        let (lane, length) = (self.lane(policy, UNICAST), message.len());
        match message {
            Outgoing::Text(text) => self.encode(lane, |protocol, endpoint, out| {
                let _ = protocol.send_text(endpoint, text, out);
            }),
            Outgoing::Binary(bytes) => self.encode(lane, |protocol, endpoint, out| {
                let _ = protocol.send_binary(endpoint, bytes, out);
            }),
            // It came whole, so that it has to be compressed again for who asked for that.
            Outgoing::Received(message) if self.protocol.compresses(self.endpoint, length) => {
                self.encode(lane, |protocol, endpoint, out| {
                    let _ = match message.as_text() {
                        Some(text) => protocol.send_text(endpoint, text, out),
                        None => protocol.send_binary(endpoint, message.payload(), out),
                    };
                });
            }
            Outgoing::Received(message) => {
                self.queue.push_received(lane, message);
                self.protocol.note_sent(self.endpoint, 1, length as u64);
            }
        }
        if waiting == 0 {
            Sent::Sent
        } else {
            Sent::Queued {
                bytes: self.queue.unsent(),
            }
        }
    }

    /// Puts what was published behind what waits; says how much.
    pub(crate) fn deliver(&mut self, chain: u32, postpone: Postpone) -> Delivered {
        let mut delivered = Delivered::default();
        let (slot, mut got) = (self.id.slot, NONE);
        for segment in self.fanout.segments(slot, chain) {
            let has_room = self.queue.held() + segment.frame_bytes <= self.limits.bytes_max;
            let is_stalled = self.queue.is_stalled();
            let can_wait = !has_room && !self.queue.is_empty() && self.protocol.is_open();
            match postpone {
                Postpone::UntilNextTurn | Postpone::WhilePeerReads if can_wait && !is_stalled => {
                    self.fanout.postpone(slot, chain, got);
                    return delivered;
                }
                // Policies that drop messages slow nobody.
                Postpone::UntilNextTurn | Postpone::WhilePeerReads
                    if is_stalled
                        && segment.may_close
                        && self.protocol.is_open()
                        && self.may_suspend(has_room, postpone) =>
                {
                    let again = self.now + FAST_TIME;
                    self.fanout.suspend(slot, chain, got, again);
                    return delivered;
                }
                Postpone::Never | Postpone::UntilNextTurn | Postpone::WhilePeerReads => {}
            }
            self.deliver_segment(&segment, !is_stalled);
            delivered.messages += segment.count as usize;
            delivered.frame_bytes += segment.frame_bytes;
            got = segment.end;
        }
        self.fanout.release(slot, chain);
        delivered
    }

    /// Whether a peer whose socket is full is not to blame: it reads fast, and there is no room; or it reads
    /// at all, much waits for it, and most others are behind as well.
    fn may_suspend(&mut self, has_room: bool, postpone: Postpone) -> bool {
        let bytes_max = self.limits.bytes_max;
        let is_long = self.queue.held() >= bytes_max / LONG_QUEUE_SHARE;
        !has_room && self.queue.is_read_fast(bytes_max, self.now)
            || postpone == Postpone::WhilePeerReads && is_long && self.queue.is_read(self.now)
    }

    /// Puts the messages of a segment behind what waits: `together`, or else as the policy of each has
    /// it.
    fn deliver_segment(&mut self, segment: &ChainSegment, together: bool) {
        if !self.protocol.is_open() {
            return;
        }
        let compressed = self.protocol.shares_compression(self.endpoint);
        let is_apart = self.protocol.is_compressed() && !compressed;
        if together && !is_apart {
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
            self.deliver_one(&message, compressed, is_apart);
        }
    }

    /// Queues one published message, as the policy of its topic has it.
    fn deliver_one(&mut self, message: &Published, compressed: bool, is_apart: bool) {
        let policy = message.policy.unwrap_or(self.limits.policy);
        if !self.protocol.is_open() || self.make_room(policy, message.key()).is_err() {
            return;
        }
        let lane = self.lane(policy, message.key());
        if is_apart {
            return self.encode(lane, |protocol, endpoint, out| {
                // It is open, as was just seen.
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

    /// Makes room for a message, as the policy allows; if there is none, tells what became of it.
    /// Messages of the same `key` replace each other.
    fn make_room(&mut self, policy: SlowConsumer, key: u64) -> Result<(), Sent> {
        let missed = self.queue.missed;
        let result = self.try_to_make_room(policy, key);
        let dropped = self.queue.missed - missed;
        if dropped > 0 {
            self.fanout.stats.dropped(policy, dropped);
        }
        result
    }

    fn try_to_make_room(&mut self, policy: SlowConsumer, key: u64) -> Result<(), Sent> {
        if policy == SlowConsumer::Conflate && self.queue.is_stalled() {
            self.queue.drop_singles(key);
        }
        while self.queue.held() >= self.limits.bytes_max {
            match policy {
                SlowConsumer::DropOldest | SlowConsumer::Conflate if self.queue.drop_oldest() => {}
                SlowConsumer::DropNewest | SlowConsumer::DropOldest | SlowConsumer::Conflate => {
                    self.queue.missed += 1;
                    return Err(Sent::Dropped);
                }
                SlowConsumer::Close => return Err(self.cut(CloseCode::POLICY_VIOLATION)),
                SlowConsumer::CloseTryAgain => return Err(self.cut(CloseCode::TRY_AGAIN_LATER)),
            }
        }
        Ok(())
    }

    /// Fails the connection of a peer that reads too slowly. What waits is of no use to it.
    fn cut(&mut self, code: CloseCode) -> Sent {
        let mut close = Vec::new();
        let cause = Cause::SlowConsumer;
        self.protocol
            .fail(self.endpoint, code, cause, &mut close, self.now);
        self.queue.discard();
        self.queue.write_control(&close);
        Sent::Closed
    }

    /// What may happen to a message that waits.
    fn lane(&self, policy: SlowConsumer, key: u64) -> Lane {
        match policy {
            SlowConsumer::DropOldest | SlowConsumer::Conflate if !self.protocol.keeps_context() => {
                if self.queue.is_stalled() {
                    Lane::Single(key)
                } else {
                    Lane::Batch
                }
            }
            _ => Lane::Kept,
        }
    }

    /// Subscribes to a topic, or to the topics that match a pattern; says whether that is new.
    ///
    /// A topic is a name of levels with slashes between, like `orders/eu/new`. In a pattern `*`
    /// stands for any one level, and `>` at its end for one level or more. A message comes once
    /// for each subscription that matches its topic. Subscriptions end with the connection.
    ///
    /// # Errors
    /// If `pattern` is neither a topic nor a pattern.
    pub fn subscribe(&mut self, pattern: &str) -> Result<bool, TopicError> {
        self.fanout.subscribe(self.id.slot, pattern)
    }

    /// Ends the subscription to exactly this topic or pattern; says whether there was one.
    ///
    /// # Errors
    /// If `pattern` is neither a topic nor a pattern.
    pub fn unsubscribe(&mut self, pattern: &str) -> Result<bool, TopicError> {
        self.fanout.unsubscribe(self.id.slot, pattern)
    }

    /// Publishes a message to all subscribers of a topic, on all shards, this connection included
    /// if it has subscribed. It is encoded once.
    ///
    /// What one connection publishes to a topic reaches each subscriber in that order, and before
    /// what is sent to this connection afterwards. A subscriber that reads too slowly is dealt with
    /// by the [rule for the topic](crate::TopicRule), or else by the policy of the server.
    ///
    /// While published messages wait for their turn on a shard, a connection that publishes is not
    /// read before its last message is on its way to all subscribers. So a handler that publishes one
    /// message for each that it gets does not see [`PublishError::Busy`], unless
    /// [`Config::fanout_memory`](crate::Config::fanout_memory) is less than a few messages.
    ///
    /// # Errors
    /// If `topic` is no topic, or the memory for published messages is used up; then nobody gets the
    /// message.
    pub fn publish<'m>(
        &mut self,
        topic: &str,
        message: impl Into<Outgoing<'m>>,
    ) -> Result<(), PublishError> {
        self.publish_except(topic, &message.into(), None)
    }

    /// The same, to all others.
    ///
    /// # Errors
    /// As [`Conn::publish`].
    pub fn publish_to_others<'m>(
        &mut self,
        topic: &str,
        message: impl Into<Outgoing<'m>>,
    ) -> Result<(), PublishError> {
        self.publish_except(topic, &message.into(), Some(self.id))
    }

    fn publish_except(
        &mut self,
        topic: &str,
        message: &Outgoing<'_>,
        except: Option<ConnectionId>,
    ) -> Result<(), PublishError> {
        let shared = &self.fanout.shared;
        let address = shared.address(topic)?;
        let is_full = shared.pressure_at(address) == Pressure::Full;
        // Also where there is no room: whoever tries publishes.
        let window = self.fanout.window(self.id.slot);
        if is_full {
            return Err(PublishError::Busy);
        }
        let message = self
            .fanout
            .shared
            .message(address, message, except, &window);
        self.fanout.publish(address, message);
        Ok(())
    }

    /// Sends a Ping with up to 125 bytes of payload (RFC 6455 5.5.2). Keepalive needs no help:
    /// this is for those who measure.
    ///
    /// # Errors
    /// If the payload is longer, or the connection is closing.
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), tidewheel_codec::PingError> {
        let mut frame = Vec::new();
        self.protocol.ping(self.endpoint, payload, &mut frame)?;
        self.queue.write_control(&frame);
        Ok(())
    }

    /// Starts the closing handshake (RFC 6455 7.1.2), behind what was sent before. The `close` callback follows when the
    /// peer has answered, or at the close timeout.
    ///
    /// # Errors
    /// If the code must not be sent, or the reason is longer than 123 bytes.
    pub fn close(
        &mut self,
        code: CloseCode,
        reason: &str,
    ) -> Result<(), tidewheel_codec::CloseError> {
        let now = self.now;
        self.encode(Lane::Control, |protocol, endpoint, out| {
            protocol.start_closing_handshake(endpoint, code, reason, Cause::LocalClose, out, now)
        })
    }

    fn encode<T>(
        &mut self,
        lane: Lane,
        encode: impl FnOnce(&mut Protocol, &mut Endpoint, &mut Vec<u8>) -> T,
    ) -> T {
        let Self {
            protocol,
            endpoint,
            queue,
            ..
        } = self;
        queue.write(lane, |out| encode(protocol, endpoint, out))
    }
}

impl<S> fmt::Debug for Conn<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("id", &self.id)
            .field("unsent", &self.unsent())
            .finish_non_exhaustive()
    }
}
