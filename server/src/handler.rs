//! The trait that an application implements.

use tidewheel_codec::Disconnect;

use crate::{Conn, Message, Request, Response, Verdict, call::Call};

/// An application. Each shard has one value of it, and calls it on its own thread only.
///
/// It needs no lock and no reference count. A callback that computes for long, or blocks, delays all
/// connections of its shard.
///
/// For each connection the callbacks are `upgrade`, `open`, any number of `message`, `drained` and `gap`, and
/// `close` once; see [`close`](Self::close) for the exception.
pub trait Handler: Sized + 'static {
    /// The application's state of a connection, stored in the connection's slot.
    type State: 'static;

    /// Called with a client's request for a WebSocket (RFC 6455 section 4.2). Returns whether the connection opens.
    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<Self::State>;

    /// Called with a complete request that does not ask for a WebSocket, on the same port: an HTTP request with the
    /// method GET, HEAD or POST. The connection ends with the response; a response to HEAD is sent without its body.
    ///
    /// The `Host` of the request is one of [`Config::hosts`](crate::Config::hosts). Its `Origin` is not checked, unlike
    /// that of a request for a WebSocket. By default the client gets 426 (Upgrade Required).
    fn http(&mut self, request: &Request<'_>) -> Response {
        Response::upgrade_required(request)
    }

    /// Called when the opening handshake is complete.
    fn open(&mut self, conn: &mut Conn<'_, Self>) {
        let _ = conn;
    }

    /// Called with a complete text or binary message. The message is borrowed from its receive buffer. Text is
    /// valid UTF-8.
    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>);

    /// Called when a send queue that had backed up is empty again.
    fn drained(&mut self, conn: &mut Conn<'_, Self>) {
        let _ = conn;
    }

    /// Called when a peer that read too slowly has taken everything, and `missed` messages were dropped. Not called
    /// after the closing handshake has begun.
    fn gap(&mut self, conn: &mut Conn<'_, Self>, missed: u64) {
        let _ = (conn, missed);
    }

    /// Called when the connection has ended. `end` has the initiator, the cause, and the close codes of both
    /// directions. Nothing can be sent to this connection any more, and its subscriptions have ended, so
    /// [`subscribers`](crate::Link::subscribers) does not count it. Publishing to others still works, and so does
    /// starting a task, whose closure is not called.
    ///
    /// It is called once for each `open`, unless the shard panics; after a panic of the shard no callback is called.
    fn close(&mut self, conn: &mut Conn<'_, Self>, end: &Disconnect) {
        let _ = (conn, end);
    }

    /// The span of a connection, in its state. The shard enters it around each callback of the connection, and around
    /// the closures of its timers, its tasks and a [`Remote`](crate::Remote). So their events have the fields of the
    /// span. By default there is none.
    ///
    /// A connection has no state yet in [`upgrade`](Self::upgrade) and [`http`](Self::http), so these enter no span. Nor
    /// does the future of a task: `tracing::Instrument` gives it one. The server's own events, such as those of the
    /// target `tidewheel::close`, are outside of the span, and have the [id](crate::Link::id) of the connection. If
    /// `span` panics, the connection fails as if the callback had panicked; `close` is then called without a span.
    ///
    /// ```
    /// # use tidewheel::{Conn, Handler, Message, Request, Verdict};
    /// # struct Chat;
    /// # impl Handler for Chat {
    /// #     type State = tracing::Span;
    /// fn upgrade(&mut self, request: &Request<'_>) -> Verdict<tracing::Span> {
    ///     Verdict::accept(tracing::info_span!("connection", path = request.path()))
    /// }
    /// fn span<'s>(&self, state: &'s tracing::Span) -> Option<&'s tracing::Span> {
    ///     Some(state)
    /// }
    /// fn message(&mut self, _: &mut Conn<'_, Self>, message: Message<'_>) {
    ///     tracing::info!(bytes = message.len(), "received");         // connection{path=/chat}: received bytes=5
    /// }
    /// # }
    /// ```
    fn span<'s>(&self, state: &'s Self::State) -> Option<&'s tracing::Span> {
        let _ = state;
        None
    }

    /// Called when a topic or pattern has got its first subscriber on this server, if
    /// [`Config::presence`](crate::Config::presence) is set. It is called after the callback that subscribed, on its
    /// shard; if subscribers come and go on several shards at the same time, on one of these.
    ///
    /// For each topic, this callback and [`topic_idle`](Self::topic_idle) are called in turns, this one first. A call
    /// begins after the call before it has returned, whichever shards they are on. So an application that keeps the
    /// changes of all shards behind one lock, or sends them to one channel, sees them in order. A change that is
    /// undone before its call is not reported: neither a topic that is left at once, nor one that gets a subscriber
    /// again at once. [`Publisher::subscribers`](crate::Publisher::subscribers) returns the number at any time.
    ///
    /// A shard reports at most 1,024 topics in a turn, so after many changes some calls come later. None comes for
    /// subscriptions that end because their shard stops or fails. If the callback panics, the panic is logged and
    /// counted, and no connection ends.
    fn topic_active(&mut self, pattern: &str) {
        let _ = pattern;
    }

    /// Called when a topic or pattern has lost its last subscriber on this server, in turns with
    /// [`topic_active`](Self::topic_active), which has the rules of both.
    fn topic_idle(&mut self, pattern: &str) {
        let _ = pattern;
    }

    /// Calls a closure of a task, of a timer or of another thread, or returns it if it is for another handler. Only
    /// a handler that consists of other handlers implements this.
    #[doc(hidden)]
    fn resume(&mut self, conn: &mut Conn<'_, Self>, call: Call) -> Result<(), Call> {
        call.run(self, conn)
    }
}
