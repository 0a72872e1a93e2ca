//! A connection without the state of the application.

use std::{fmt, marker::PhantomData, time::Duration};

use tidewheel_codec::{
    Cause, CloseCode, CloseError, Connection as Protocol, Endpoint, PingError, Time,
};

use super::Postpone;
use crate::{
    AsTopic, Conn, ConnectionId, Handler, Outgoing, Topic, TopicError,
    fanout::{Fanout, NONE, Pressure},
    later::{Schedule, TimerId},
    outbox::{Lane, Queue, SendLimits},
    topic::TopicRef,
};
#[cfg(feature = "tasks")]
use crate::{
    call::Call,
    later::{Output, TaskFuture},
};

/// The key of messages that [`Link::send`] sends, in place of the hash of a topic.
const UNICAST: u64 = 0;

/// A connection without the application's state: everything that a handler does with a connection except
/// [`Conn::state`](super::Conn::state).
///
/// [`Conn::split`](super::Conn::split) returns it beside the state, so that both can be used at the same time.
pub struct Link<'a, H> {
    pub(crate) id: ConnectionId,
    pub(crate) now: Time,
    pub(crate) protocol: &'a mut Protocol,
    pub(crate) queue: &'a mut Queue,
    pub(crate) endpoint: &'a mut Endpoint,
    pub(crate) fanout: &'a mut Fanout,
    pub(crate) later: &'a mut Schedule,
    pub(crate) limits: SendLimits,
    pub(crate) handler: PhantomData<fn(&mut H)>,
}

/// Error of publishing a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The name of the topic is invalid.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// A shard with subscribers has used up [`Config::fanout_memory`](crate::Config::fanout_memory).
    #[error("too many published messages wait for delivery: try again later")]
    Busy,
}

/// Result of sending a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Sent {
    /// The queue was empty. The message is sent at the end of this turn.
    Sent,
    /// The message waits in the queue behind others.
    Queued {
        /// Bytes in the queue, including this message.
        bytes: usize,
    },
    /// The queue is full, and the policy for slow consumers dropped the message.
    Dropped,
    /// The connection is closing, or the policy for slow consumers has just closed it.
    Closed,
}

impl<'a, H> Link<'a, H> {
    /// The same connection, for another handler.
    pub(crate) fn of<O>(link: &'a mut Link<'_, O>) -> Self {
        Self {
            id: link.id,
            now: link.now,
            protocol: link.protocol,
            queue: link.queue,
            endpoint: link.endpoint,
            fanout: link.fanout,
            later: link.later,
            limits: link.limits,
            handler: PhantomData,
        }
    }
}

impl<H: Handler> Link<'_, H> {
    /// The id of the connection.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Bytes in the send queue, including those of the current send.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.queue.unsent()
    }

    /// Returns whether messages can be sent: neither side has sent a Close.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.protocol.is_open()
    }

    /// Sends a message: strings as text, bytes as binary, and a received [`Message`](crate::Message) with its type.
    ///
    /// Messages of one turn share one send. A message is queued while the queue takes less than
    /// [`Config::max_send_queue`](crate::Config::max_send_queue) bytes of memory. Above that, the policy for
    /// [slow consumers](crate::SlowConsumer) applies.
    pub fn send<'m>(&mut self, message: impl Into<Outgoing<'m>>) -> Sent {
        let message = message.into();
        if !self.protocol.is_open() {
            return Sent::Closed;
        }
        // Messages that were published earlier are queued first.
        self.fanout.catch_up(self.id.slot);
        let chain = self.fanout.take_chain(self.id.slot);
        if chain != NONE {
            self.deliver(chain, Postpone::Never);
        }
        let policy = self.limits.policy;
        if let Err(refused) = self.make_space(policy, UNICAST) {
            return refused;
        }
        let waiting = self.queue.unsent();
        let (lane, length) = (self.lane(policy, UNICAST), message.len());
        match message {
            Outgoing::Text(text) => self.encode(lane, |protocol, endpoint, out| {
                let _ = protocol.send_text(endpoint, &text, out);
            }),
            Outgoing::Binary(bytes) => self.encode(lane, |protocol, endpoint, out| {
                let _ = protocol.send_binary(endpoint, &bytes, out);
            }),
            // A received message is inflated, so it is compressed again for a peer that negotiated compression.
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

    /// Subscribes to a topic, or to the topics that match a pattern. Returns whether the subscription is new.
    ///
    /// A topic has levels, separated by slashes, like `orders/eu/new`. In a pattern, `*` matches any one level,
    /// and `>` at the end matches one or more levels. A message is received once for each subscription that
    /// matches its topic. The subscriptions end with the connection, before [`Handler::close`] is called.
    ///
    /// A name that comes from a client may be a pattern, such as `rooms/*`, and would then match the topics of others.
    /// [`topic`](Self::topic) refuses patterns.
    ///
    /// # Errors
    /// If `pattern` is neither a topic nor a pattern.
    pub fn subscribe(&mut self, pattern: &str) -> Result<bool, TopicError> {
        self.fanout.subscribe(self.id.slot, pattern)
    }

    /// Ends the subscription to exactly this topic or pattern. Returns whether it existed.
    ///
    /// # Errors
    /// If `pattern` is neither a topic nor a pattern.
    pub fn unsubscribe(&mut self, pattern: &str) -> Result<bool, TopicError> {
        self.fanout.unsubscribe(self.id.slot, pattern)
    }

    /// Returns the number of connections of this server that have subscribed to exactly this topic or pattern, on
    /// all shards. `None` without [`Config::presence`](crate::Config::presence).
    ///
    /// Subscriptions of this shard count at once, and those of other shards when they have been executed.
    #[must_use]
    pub fn subscribers(&self, pattern: &str) -> Option<usize> {
        self.fanout.shared.subscribers(pattern)
    }

    /// Makes the handle of a topic, through which [`publish`](Self::publish) is cheaper than by the name.
    ///
    /// # Errors
    /// If `name` is not a valid topic, or is a pattern.
    pub fn topic(&self, name: &str) -> Result<Topic, TopicError> {
        self.fanout.shared.topic(name)
    }

    /// Publishes a message to all subscribers of a topic, on all shards. The topic is a name or a [`Topic`]. This
    /// connection receives the message if it has subscribed. The message is encoded once.
    ///
    /// Each subscriber receives the messages that one connection publishes to a topic in order. Messages that are
    /// sent to this connection later arrive after them. For a slow subscriber, the
    /// [rule for the topic](crate::TopicRule) applies, or else the policy of the server.
    ///
    /// While published messages wait on a shard, a connection that publishes is not read if more than 64 KiB of its
    /// messages, or more than one message, are not queued for all subscribers yet. So a handler that publishes one
    /// message for each received message gets no [`PublishError::Busy`], unless
    /// [`Config::fanout_memory`](crate::Config::fanout_memory) is less than a few messages.
    ///
    /// # Errors
    /// If `topic` is invalid, or [`Config::fanout_memory`](crate::Config::fanout_memory) is used up. No
    /// subscriber receives the message then.
    pub fn publish<'m>(
        &mut self,
        topic: impl AsTopic,
        message: impl Into<Outgoing<'m>>,
    ) -> Result<(), PublishError> {
        self.publish_except(topic.topic_ref(), &message.into(), None)
    }

    /// Publishes a message like [`publish`](Self::publish), but not to this connection.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_to_others<'m>(
        &mut self,
        topic: impl AsTopic,
        message: impl Into<Outgoing<'m>>,
    ) -> Result<(), PublishError> {
        self.publish_except(topic.topic_ref(), &message.into(), Some(self.id))
    }

    fn publish_except(
        &mut self,
        topic: TopicRef<'_>,
        message: &Outgoing<'_>,
        except: Option<ConnectionId>,
    ) -> Result<(), PublishError> {
        let shared = &self.fanout.shared;
        let address = shared.address(topic)?;
        let is_full = shared.pressure_at(address) == Pressure::Full;
        // Also if the message is not published, so that the connection counts as a publisher.
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

    /// Sends a Ping with up to 125 bytes of payload (RFC 6455 5.5.2). The server sends keepalive pings itself, so
    /// this is for measurements.
    ///
    /// # Errors
    /// If the payload is longer, or the connection is closing.
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), PingError> {
        let mut frame = Vec::new();
        self.protocol.ping(self.endpoint, payload, &mut frame)?;
        self.queue.write_control(&frame);
        Ok(())
    }

    /// Calls `call` with the connection after `delay`, which counts as a year if it is longer. It is called at most
    /// 16 ms late, not before, and not in this turn. A connection that closes cancels its timers.
    ///
    /// It is called once; for a timer that repeats, `call` starts the next one. A timer whose closure captures nothing
    /// takes 16 bytes of memory. Values for the closure can be kept in the [state](crate::Conn::state).
    ///
    /// Returns the timer, for [`cancel`](Self::cancel); or `None`, if the connection is closing or has 1024 timers.
    pub fn after(
        &mut self,
        delay: Duration,
        call: impl Fn(&mut H, &mut Conn<'_, H>) + 'static,
    ) -> Option<TimerId> {
        if !self.is_open() {
            return None;
        }
        self.later.timers.add(self.id.slot, self.now, delay, call)
    }

    /// Cancels a timer of this connection. Returns whether it was still to expire.
    pub fn cancel(&mut self, timer: TimerId) -> bool {
        // A connection that closes has cancelled its timers.
        self.is_open() && self.later.timers.cancel(self.id.slot, timer)
    }

    /// Runs a future on the thread of the shard, and then calls `then` with its output. The future need not be
    /// [`Send`]. It runs on a `tokio_uring` runtime, so it can use tokio, libraries for tokio, and `tokio_uring`.
    ///
    /// Several tasks of a connection run at the same time, and finish in any order. While the connection has
    /// [`Config::max_tasks_per_connection`](crate::Config::max_tasks_per_connection) tasks, no further message of it is
    /// read.
    ///
    /// When the connection has ended, the future goes on for at most
    /// [`Config::close_timeout`](crate::Config::close_timeout), so that work for a message is finished although its
    /// client has gone; a [drain](crate::Publisher::drain) waits for it, too. A future that
    /// [`Handler::close`](crate::Handler::close) starts runs as long. `then` is not called after a Close was sent or
    /// received. If the future or `then` panics, the connection is closed with 1011.
    ///
    /// A future that computes for long, or blocks, delays all connections of its shard. A task has no deadline of its
    /// own: `tokio::time::timeout` gives it one.
    ///
    /// # Panics
    /// If [`Config::max_tasks`](crate::Config::max_tasks) is 0.
    #[cfg(feature = "tasks")]
    pub fn spawn<F: Future + 'static>(
        &mut self,
        future: F,
        then: impl FnOnce(&mut H, &mut Conn<'_, H>, F::Output) + 'static,
    ) {
        self.later.tasks.start(self.id.slot, task(future, then));
    }

    /// Like [`spawn`](Self::spawn), but the future starts when the futures of earlier calls for this connection have
    /// finished. So the closures are called in the order of the calls.
    ///
    /// # Panics
    /// If [`Config::max_tasks`](crate::Config::max_tasks) is 0.
    #[cfg(feature = "tasks")]
    pub fn spawn_in_order<F: Future + 'static>(
        &mut self,
        future: F,
        then: impl FnOnce(&mut H, &mut Conn<'_, H>, F::Output) + 'static,
    ) {
        let task = task(future, then);
        self.later.tasks.start_in_order(self.id.slot, task);
    }

    /// Starts the closing handshake (RFC 6455 7.1.2). The Close is sent behind the queued messages. The `close`
    /// callback follows when the peer has answered, or at the close timeout.
    ///
    /// # Errors
    /// If the code must not be sent, or the reason is longer than 123 bytes.
    pub fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), CloseError> {
        let now = self.now;
        self.encode(Lane::Control, |protocol, endpoint, out| {
            protocol.start_closing_handshake(endpoint, code, reason, Cause::LocalClose, out, now)
        })
    }

    pub(super) fn encode<T>(
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

/// A task that calls `then` with the output of `future`.
#[cfg(feature = "tasks")]
fn task<H: Handler, F: Future + 'static>(
    future: F,
    then: impl FnOnce(&mut H, &mut Conn<'_, H>, F::Output) + 'static,
) -> TaskFuture {
    Box::pin(async move {
        let output = future.await;
        Output::Call(Call::once(move |handler, conn| then(handler, conn, output)))
    })
}

impl<H: Handler> fmt::Debug for Link<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("id", &self.id)
            .field("unsent", &self.unsent())
            .finish_non_exhaustive()
    }
}
