//! The application of the server: it echoes binary messages, and publishes to all subscribers.

use tidewheel::{Cause, CloseCode, Conn, Disconnect, Handler, Message, Request, Sent, Verdict};

/// Text message that subscribes its sender.
pub(crate) const SUBSCRIBE: &str = "subscribe";

/// Text message that publishes [`Application::published`].
pub(crate) const PUBLISH: &str = "publish";

/// Topic of all subscriptions.
pub(crate) const TOPIC: &str = "all";

/// Numbers of ended connections by cause.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Ends {
    /// Ended by the client's Close 1000.
    pub(crate) by_peer: u64,
    /// Ended by the ping timeout: Close 1011 was sent, and no Close was received.
    pub(crate) silent: u64,
    /// Ended by the drain: Close 1001 in both directions.
    pub(crate) drained: u64,
}

/// Application of a shard, which keeps no state of a connection.
pub(crate) struct Application {
    pub(crate) published: String,
    pub(crate) ends: Ends,
}

impl Handler for Application {
    type State = ();

    fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
        Verdict::accept(())
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        match message.as_text() {
            None => assert_eq!(conn.send(message), Sent::Sent),
            Some(SUBSCRIBE) => assert_eq!(conn.subscribe(TOPIC), Ok(true)),
            Some(PUBLISH) => assert_eq!(conn.publish(TOPIC, self.published.as_str()), Ok(())),
            Some(text) => panic!("no client sends {text:?}"),
        }
    }

    fn close(&mut self, _: &mut Conn<'_, Self>, end: &Disconnect) {
        let received = end.received.as_ref().map(|close| close.code);
        let sent = end.sent.as_ref().map(|close| close.code);
        match (end.cause, received, sent) {
            (
                Cause::PeerClose,
                Some(CloseCode::NORMAL_CLOSURE),
                Some(CloseCode::NORMAL_CLOSURE),
            ) => self.ends.by_peer += 1,
            (Cause::PingTimeout, None, Some(CloseCode::INTERNAL_ERROR)) => self.ends.silent += 1,
            (Cause::Shutdown, Some(CloseCode::GOING_AWAY), Some(CloseCode::GOING_AWAY)) => {
                self.ends.drained += 1;
            }
            _ => panic!("unexpected end of a connection: {end:?}"),
        }
    }
}
