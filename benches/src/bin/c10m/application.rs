//! What the server does: echo what is binary, and publish to all.

use tidewheel::{Cause, CloseCode, Conn, Disconnect, Handler, Message, Request, Sent, Verdict};

/// The text that subscribes whoever says it.
pub(crate) const SUBSCRIBE: &str = "subscribe";

/// The text that has [`Application::published`] published.
pub(crate) const PUBLISH: &str = "publish";

/// The topic of all.
pub(crate) const TOPIC: &str = "all";

/// How connections have ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Ends {
    /// By the client's Close 1000.
    pub(crate) by_peer: u64,
    /// Because nothing was heard: Close 1011 was sent, and nothing came back.
    pub(crate) silent: u64,
    /// By the drain: Close 1001 both ways.
    pub(crate) drained: u64,
}

/// The application of each shard. It keeps nothing for a connection.
pub(crate) struct Application {
    pub(crate) published: String,
    pub(crate) ends: Ends,
}

impl Handler for Application {
    type State = ();

    fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
        Verdict::accept(())
    }

    fn message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        match message.as_text() {
            None => assert_eq!(conn.send(message), Sent::Sent),
            Some(SUBSCRIBE) => assert_eq!(conn.subscribe(TOPIC), Ok(true)),
            Some(PUBLISH) => assert_eq!(conn.publish(TOPIC, self.published.as_str()), Ok(())),
            Some(text) => panic!("nobody says {text:?}"),
        }
    }

    fn close(&mut self, _: &mut Conn<'_, ()>, end: &Disconnect) {
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
            _ => panic!("no connection ends so: {end:?}"),
        }
    }
}
