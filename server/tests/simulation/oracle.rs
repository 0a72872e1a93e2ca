//! The actions of a client, and the messages that it must receive.

use tidewheel::{Cause, CloseCode, Disconnect, Initiator};

use super::{bench::Bench, client::Client};

/// The actions of a client so far.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Whether the client only sends messages and pings, and pauses reading.
    pub(crate) is_well_behaved: bool,
    /// The messages that the client sent.
    pub(crate) sent_messages: Vec<Vec<u8>>,
    /// Set when the client started the closing handshake.
    pub(crate) closed: Option<Closing>,
    /// Whether the client violated the protocol.
    pub(crate) violated: bool,
    /// Number of messages sent before the client began a frame that never ends. All later bytes are part of
    /// that frame.
    pub(crate) unfinished: Option<usize>,
    /// Whether the client vanished, reset its connection, or sent FIN.
    pub(crate) is_gone: bool,
}

/// The echoes that a client had received before it sent Close.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Closing {
    /// Every echo.
    Served,
    /// Not every echo: the Close followed messages directly.
    BehindMessages,
}

/// The time of a drain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Drained {
    Never,
    /// While messages and echoes were under way.
    AtOnce,
    /// After every reading client had received every echo.
    WhenServed,
}

/// Number of undisturbed clients that sent messages, and number of those messages, which were all echoed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Undisturbed {
    pub(crate) clients: usize,
    pub(crate) messages: usize,
}

impl History {
    /// The history of a new client.
    pub(crate) fn new(is_well_behaved: bool) -> Self {
        Self {
            is_well_behaved,
            ..Self::default()
        }
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, bench: &mut Bench, at: usize, message: Vec<u8>) {
        bench.send(at, &message);
        self.sent_messages.push(message);
    }

    /// Starts the closing handshake, if the connection is open.
    pub(crate) fn close(&mut self, bench: &mut Bench, at: usize) {
        if bench.is_open(at) {
            let is_served = bench.clients[at].echoes.len() == self.sent_messages.len();
            self.closed = Some(match is_served {
                true => Closing::Served,
                false => Closing::BehindMessages,
            });
            bench.close(at);
        }
    }

    /// Number of echoes that the client must receive before the connection is closed.
    fn due(&self, client: &Client) -> usize {
        let is_ended = self.closed.is_some() || self.violated || self.is_gone;
        match self.unfinished {
            _ if is_ended || client.is_silent => 0,
            Some(count) => count,
            None => self.sent_messages.len(),
        }
    }

    /// Whether the client has received every echo that is due.
    pub(crate) fn is_served(&self, client: &Client) -> bool {
        client.echoes.len() >= self.due(client)
    }
}

/// Asserts that `client` has received every echo that is due, and nothing else.
pub(crate) fn assert_served(client: &Client, history: &History) {
    assert_prefix(client, history);
    let (due, received) = (history.due(client), client.echoes.len());
    assert!(
        received >= due,
        "received {received} echoes of {due}: {client:?}"
    );
}

/// Asserts that the echoes are the first messages of the client, in order and without a gap.
fn assert_prefix(client: &Client, history: &History) {
    assert!(
        history.sent_messages.starts_with(&client.echoes),
        "echoes are in order, complete, and without a gap"
    );
}

/// Asserts, after all connections have ended, that the client at `at` received the echoes and the Close that
/// its history requires, and no others. Counts the client if it was undisturbed.
pub(crate) fn assert_end(
    bench: &Bench,
    at: usize,
    history: &History,
    drained: Drained,
    undisturbed: &mut Undisturbed,
) {
    let client = &bench.clients[at];
    assert_prefix(client, history);
    let record = bench.record.borrow();
    let echoed = record.echoed.get(&at).copied().unwrap_or(0);
    let received = client.echoes.len();
    assert!(received <= echoed && echoed <= history.sent_messages.len());

    let code = close_code(client);
    if let Some(code) = code {
        assert_allowed(code, client, history, drained);
        if is_behind_every_echo(code) {
            assert_eq!(
                received,
                echoed,
                "client {at} gets every echo before Close {code:?}; {drained:?}, {:?}",
                (
                    history.closed,
                    history.violated,
                    history.unfinished,
                    history.is_gone,
                    client.is_silent
                )
            );
        }
    }
    let was_opened = record.clients.values().any(|client| *client == at);
    let stays = !history.is_gone && history.unfinished.is_none() && !client.is_silent;
    if !stays || !was_opened {
        return;
    }
    let code = code.expect("a client that stays and reads gets a Close");
    assert!(
        client.has_received_fin && !client.has_received_rst,
        "FIN follows the Close"
    );
    let must_have_all = match (drained, history.closed) {
        _ if history.violated => false,
        (Drained::WhenServed, None) | (_, Some(Closing::Served)) => true,
        (Drained::Never, Some(Closing::BehindMessages)) => true,
        (Drained::AtOnce, None) => false,
        (Drained::AtOnce | Drained::WhenServed, Some(Closing::BehindMessages)) => false,
        (Drained::Never, None) => panic!("every open client closes before the end"),
    };
    if must_have_all {
        assert_eq!(
            received,
            history.sent_messages.len(),
            "every message is echoed"
        );
        let mut ends = record.ends.iter();
        let end = ends.find(|(id, ..)| record.clients.get(id) == Some(&at));
        let (.., end) = end.expect("`close` is called for each connection");
        assert_reported(end, code, history);
        undisturbed.clients += usize::from(received > 0);
        undisturbed.messages += received;
    }
}

/// The code of the server's Close, if one arrived.
fn close_code(client: &Client) -> Option<CloseCode> {
    let end = client.end.as_ref()?;
    end.received.as_ref().map(|close| close.code)
}

/// Asserts that the history justifies a Close with this code.
fn assert_allowed(code: CloseCode, client: &Client, history: &History, drained: Drained) {
    let is_allowed = match code {
        // No timer closes with this code (R7).
        CloseCode::NORMAL_CLOSURE => history.closed.is_some() && !history.violated,
        CloseCode::PROTOCOL_ERROR => history.violated,
        CloseCode::GOING_AWAY => drained != Drained::Never,
        // Ping timeout. Pongs within a frame that never ends are payload.
        CloseCode::INTERNAL_ERROR => client.is_silent || history.unfinished.is_some(),
        _ => false,
    };
    assert!(
        is_allowed,
        "the history does not justify Close {code:?}: {client:?}"
    );
}

/// Whether every echo that the handler has sent must arrive before a Close with this code (R23).
///
/// After a client's FIN without Close, the server sends no Close, and echoes are not required.
fn is_behind_every_echo(code: CloseCode) -> bool {
    code != CloseCode::INTERNAL_ERROR
}

/// Asserts that the handler got the report of an orderly end, with the right counts.
fn assert_reported(end: &Disconnect, code: CloseCode, history: &History) {
    let expected = match code {
        CloseCode::GOING_AWAY => (Initiator::Local, Cause::Shutdown),
        _ => (Initiator::Peer, Cause::PeerClose),
    };
    assert_eq!((end.initiator, end.cause), expected);
    assert_eq!(end.sent.as_ref().map(|close| close.code), Some(code));
    assert!(end.received.is_some(), "the closing handshake is complete");
    let count = history.sent_messages.len() as u64;
    let messages = (end.traffic.received_messages, end.traffic.sent_messages);
    assert_eq!(messages, (count, count));
}
