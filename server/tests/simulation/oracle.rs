//! The acts of a client, and the messages that it must have received.

use tidewheel::{Cause, CloseCode, Disconnect, Initiator};

use super::bench::{Bench, Client};

/// The acts of a client.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The client only sends messages and pings, and stops reading for a while.
    pub(crate) is_well_behaved: bool,
    /// The messages that it sent.
    pub(crate) said: Vec<Vec<u8>>,
    /// Set when it started the closing handshake.
    pub(crate) closed: Option<Closing>,
    /// It sent bytes that break the protocol.
    pub(crate) violated: bool,
    /// Messages sent before the client began a frame that never ends. All later bytes are part of that
    /// frame.
    pub(crate) unfinished: Option<usize>,
    /// It vanished, reset its connection, or sent FIN.
    pub(crate) is_gone: bool,
}

/// The echoes that a client had received when it sent its Close.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Closing {
    /// Every echo.
    Served,
    /// Not every echo: the Close was sent right behind messages.
    BehindMessages,
}

/// When the server was told to drain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Drained {
    Never,
    /// While messages and echoes were under way.
    AtOnce,
    /// After every reading client had received every echo.
    WhenServed,
}

/// Counts of undisturbed clients that sent messages, and of those messages; all were echoed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Undisturbed {
    pub(crate) clients: usize,
    pub(crate) messages: usize,
}

impl History {
    /// The history of a client that has done nothing yet.
    pub(crate) fn new(is_well_behaved: bool) -> Self {
        Self {
            is_well_behaved,
            ..Self::default()
        }
    }

    /// Sends a message.
    pub(crate) fn say(&mut self, bench: &mut Bench, at: usize, message: Vec<u8>) {
        bench.say(at, &message);
        self.said.push(message);
    }

    /// Starts the closing handshake, if that can be done.
    pub(crate) fn close(&mut self, bench: &mut Bench, at: usize) {
        if bench.is_open(at) {
            let is_served = bench.clients[at].echoes.len() == self.said.len();
            self.closed = Some(match is_served {
                true => Closing::Served,
                false => Closing::BehindMessages,
            });
            bench.close(at);
        }
    }

    /// Echoes that the client must receive before anybody closes the connection.
    fn due(&self, client: &Client) -> usize {
        let is_ended = self.closed.is_some() || self.violated || self.is_gone;
        match self.unfinished {
            _ if is_ended || client.silent => 0,
            Some(count) => count,
            None => self.said.len(),
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
    let (due, came) = (history.due(client), client.echoes.len());
    assert!(came >= due, "{came} echoes of {due} came: {client:?}");
}

/// Asserts that the echoes are the first messages of the client: in order, whole and without a gap.
fn assert_prefix(client: &Client, history: &History) {
    assert!(
        history.said.starts_with(&client.echoes),
        "echoes in order, each whole, without a gap"
    );
}

/// Asserts, after all connections have ended, that the client at `at` received what its history demands
/// and nothing that its history does not allow. Counts the client if it was undisturbed.
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
    let came = client.echoes.len();
    assert!(came <= echoed && echoed <= history.said.len());

    let code = close_code(client);
    if let Some(code) = code {
        assert_allowed(code, client, history, drained);
        if is_behind_every_echo(code) {
            assert_eq!(
                came,
                echoed,
                "client {at}: every echo comes before Close {code:?}; {drained:?}, {:?}",
                (
                    history.closed,
                    history.violated,
                    history.unfinished,
                    history.is_gone,
                    client.silent
                )
            );
        }
    }
    let was_opened = record.clients.values().any(|client| *client == at);
    let stays = !history.is_gone && history.unfinished.is_none() && !client.silent;
    if !stays || !was_opened {
        return;
    }
    let code = code.expect("a client that stays and reads gets a Close");
    assert!(
        client.got_finish && !client.got_reset,
        "FIN follows the Close"
    );
    let must_have_all = match (drained, history.closed) {
        _ if history.violated => false,
        (Drained::WhenServed, None) | (_, Some(Closing::Served)) => true,
        (Drained::Never, Some(Closing::BehindMessages)) => true,
        (Drained::AtOnce, None) => false,
        (Drained::AtOnce | Drained::WhenServed, Some(Closing::BehindMessages)) => false,
        (Drained::Never, None) => panic!("every open client closes in the end"),
    };
    if must_have_all {
        assert_eq!(came, history.said.len(), "every message is echoed");
        let mut ends = record.ends.iter();
        let end = ends.find(|(id, ..)| record.clients.get(id) == Some(&at));
        let (.., end) = end.expect("`close` is called for each");
        assert_reported(end, code, history);
        undisturbed.clients += usize::from(came > 0);
        undisturbed.messages += came;
    }
}

/// The code of the server's Close, if one came.
fn close_code(client: &Client) -> Option<CloseCode> {
    let end = client.end.as_ref()?;
    end.received.as_ref().map(|close| close.code)
}

/// Asserts that the history contains the reason for a Close with this code.
fn assert_allowed(code: CloseCode, client: &Client, history: &History, drained: Drained) {
    let is_allowed = match code {
        // No timer closes with this code (R7).
        CloseCode::NORMAL_CLOSURE => history.closed.is_some() && !history.violated,
        CloseCode::PROTOCOL_ERROR => history.violated,
        CloseCode::GOING_AWAY => drained != Drained::Never,
        // Ping timeout. In a frame that never ends, the answers to pings are payload.
        CloseCode::INTERNAL_ERROR => client.silent || history.unfinished.is_some(),
        _ => false,
    };
    assert!(is_allowed, "Close {code:?} for no reason: {client:?}");
}

/// Whether every echo that the handler has sent must arrive before a Close with this code (R23).
///
/// Nothing is demanded of a FIN right behind messages, after which no Close comes.
fn is_behind_every_echo(code: CloseCode) -> bool {
    code != CloseCode::INTERNAL_ERROR
}

/// Asserts that the handler was given the report of an orderly end with the right counts.
fn assert_reported(end: &Disconnect, code: CloseCode, history: &History) {
    let expected = match code {
        CloseCode::GOING_AWAY => (Initiator::Local, Cause::Shutdown),
        _ => (Initiator::Peer, Cause::PeerClose),
    };
    assert_eq!((end.initiator, end.cause), expected);
    assert_eq!(end.sent.as_ref().map(|close| close.code), Some(code));
    assert!(end.received.is_some(), "the closing handshake is complete");
    let count = history.said.len() as u64;
    let messages = (end.traffic.received_messages, end.traffic.sent_messages);
    assert_eq!(messages, (count, count));
}
