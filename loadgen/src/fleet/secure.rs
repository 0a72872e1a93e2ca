//! TLS between the frames of a fleet and its wires, where the server is at a `wss://` URL.

use rustls::{HandshakeKind, ProtocolVersion, SupportedCipherSuite};

use super::{
    Event, Fleet,
    client::{Stage, State},
};
use crate::{
    clock::Moment,
    figures::Figures,
    outcome::{Asked, Outcome, TransportEnd},
    tls::{self, Session, Tls},
};

/// TLS of all clients of a fleet.
#[derive(Debug)]
pub(crate) struct Secure {
    tls: Tls,
    /// That of each client that has a TCP connection.
    sessions: Vec<Option<Box<Session>>>,
    /// What a client has received, while it is handled.
    plain: Vec<u8>,
    /// What the speaker sends, encrypted; empty between two flushes.
    sealed: Vec<u8>,
    /// What the first handshake came to.
    agreed: Option<(ProtocolVersion, SupportedCipherSuite)>,
    handshakes_full: u64,
    handshakes_resumed: u64,
}

impl Secure {
    pub(super) fn new(tls: Tls, capacity: u32) -> Self {
        Self {
            tls,
            sessions: std::iter::repeat_with(|| None)
                .take(capacity as usize)
                .collect(),
            plain: Vec::new(),
            sealed: Vec::new(),
            agreed: None,
            handshakes_full: 0,
            handshakes_resumed: 0,
        }
    }

    /// What is worth a mention of it, by name.
    pub(crate) fn settings(&self) -> [(&'static str, String); 2] {
        let version = match self.agreed {
            Some((ProtocolVersion::TLSv1_2, suite)) => format!("1.2, {:?}", suite.suite()),
            Some((ProtocolVersion::TLSv1_3, suite)) => format!("1.3, {:?}", suite.suite()),
            Some((other, suite)) => format!("{other:?}, {:?}", suite.suite()),
            None => "1.2 or 1.3, no handshake was done".to_owned(),
        };
        [("tls", version), ("certificate", self.tls.to_string())]
    }

    /// How many handshakes there were of each kind.
    pub(crate) fn figures(&self, figures: &mut Figures) {
        figures.count("tls.handshakes_full", self.handshakes_full);
        figures.count("tls.handshakes_resumed", self.handshakes_resumed);
    }

    /// Encrypts what the speaker has to say, behind what its session had to say itself.
    pub(super) fn seal(&mut self, client: u32, plain: &[u8]) -> &mut Vec<u8> {
        if let Some(session) = &mut self.sessions[client as usize]
            && !plain.is_empty()
        {
            session.seal(plain, &mut self.sealed);
        }
        &mut self.sealed
    }

    /// What was to be sent is sent, or has nobody left to send it.
    pub(super) fn clear(&mut self) {
        self.sealed.clear();
    }

    /// Forgets a client that has left.
    pub(super) fn forget(&mut self, client: u32) {
        self.sessions[client as usize] = None;
    }

    /// How far a client's session has come, if it has one.
    pub(super) fn stage(&self, client: u32) -> Option<tls::Stage> {
        let session = self.sessions[client as usize].as_deref();
        session.map(Session::stage)
    }

    fn count(&mut self, client: u32) {
        let session = self.sessions[client as usize].as_deref();
        let Some((version, suite, kind)) = session.and_then(Session::agreed) else {
            return;
        };
        self.agreed.get_or_insert((version, suite));
        match kind {
            HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest => {
                self.handshakes_full += 1;
            }
            HandshakeKind::Resumed => {
                self.handshakes_resumed += 1;
            }
        }
    }
}

impl Fleet {
    /// What the fleet knows of TLS, if its server is at a `wss://` URL.
    pub(crate) const fn secure(&self) -> Option<&Secure> {
        self.secure.as_ref()
    }

    /// Starts the TLS handshake of a client that is connected.
    pub(super) fn greet(&mut self, client: u32) -> Option<Event> {
        self.speak(client);
        let secure = self.secure.as_mut()?;
        secure.tls.set_client(client);
        match secure.tls.session(&mut secure.sealed) {
            Ok(session) => {
                secure.sessions[client as usize] = Some(Box::new(session));
                None
            }
            Err(error) => Some(self.end(client, Outcome::HandshakeFailed, Some(tls::told(&error)))),
        }
    }

    /// Decrypts received bytes, and handles what they say.
    pub(super) fn decrypt(
        &mut self,
        client: u32,
        bytes: &mut [u8],
        now: Moment,
        events: &mut Vec<Event>,
    ) {
        let Some(secure) = &mut self.secure else {
            return self.read(client, bytes, now, events);
        };
        let Some(session) = &mut secure.sessions[client as usize] else {
            return;
        };
        secure.tls.set_client(client);
        let result = session.receive(bytes, &mut secure.plain, &mut secure.sealed);
        let stage = session.stage();
        if let State::Securing(approach) = self.clients[client as usize].state
            && stage != tls::Stage::Handshake
        {
            secure.count(client);
            events.extend(self.approach(client, approach));
        }
        self.read_plain(client, now, events);
        if matches!(self.clients[client as usize].state, State::Leaving) {
            return;
        }
        match result {
            Err(error) => {
                let outcome = self.outcome_of_error(client);
                // With the alert.
                self.flush();
                events.push(self.end(client, outcome, Some(tls::told(&error))));
            }
            Ok(()) if self.is_mute(client) => self.secure.iter_mut().for_each(Secure::clear),
            Ok(()) if stage == tls::Stage::Finished => self.say_close_notify(client),
            Ok(()) => {}
        }
    }

    /// Handles what was decrypted.
    fn read_plain(&mut self, client: u32, now: Moment, events: &mut Vec<Event>) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        let mut plain = std::mem::take(&mut secure.plain);
        if !plain.is_empty() {
            self.read(client, &mut plain, now, events);
            plain.clear();
        }
        if let Some(secure) = &mut self.secure {
            secure.plain = plain;
        }
    }

    /// Says that nothing follows, behind what is in `out`, which the next flush sends.
    pub(super) fn say_close_notify(&mut self, client: u32) {
        if self.secure.is_some() {
            self.speak(client);
        }
        let Some(secure) = &mut self.secure else {
            return;
        };
        if let Some(session) = &mut secure.sessions[client as usize] {
            if !self.out.is_empty() {
                session.seal(&self.out, &mut secure.sealed);
                self.out.clear();
            }
            session.close(&mut secure.sealed);
        }
    }

    /// The end of a client's transport, as TLS sees it.
    ///
    /// A server that has said close_notify may have closed its socket already. Then its kernel
    /// answers ours with RST, which says nothing about the server.
    pub(super) fn end_of(&self, client: u32, end: TransportEnd) -> TransportEnd {
        let secure = self.secure.as_ref();
        match secure.and_then(|secure| secure.stage(client)) {
            Some(tls::Stage::Finished) => TransportEnd::Fin,
            Some(tls::Stage::Handshake | tls::Stage::Open | tls::Stage::Exhausted) | None => end,
        }
    }

    /// What there is to say of an end that came too early.
    pub(super) fn told_of_end(&self, client: u32, end: TransportEnd) -> String {
        let secure = self.secure.as_ref();
        match secure.and_then(|secure| secure.stage(client)) {
            Some(tls::Stage::Handshake) => format!("TLS: {end} in the handshake"),
            Some(tls::Stage::Exhausted) => {
                format!("TLS: {end}, after more records than 1.2 has keys for")
            }
            Some(tls::Stage::Open | tls::Stage::Finished) | None => end.to_string(),
        }
    }

    /// Whether a client answers nothing any more.
    pub(super) fn is_mute(&self, client: u32) -> bool {
        let state = &self.clients[client as usize].state;
        matches!(
            state,
            State::Live {
                stage: Stage::Open(Asked::Silence | Asked::Fin),
                ..
            }
        )
    }

    /// The outcome of a connection whose TLS is wrong, or ended by an alert.
    fn outcome_of_error(&self, client: u32) -> Outcome {
        match &self.clients[client as usize].state {
            State::Live {
                stage: Stage::Open(asked @ (Asked::Silence | Asked::Fin)),
                received,
                ..
            } => Outcome::of(*asked, *received, TransportEnd::Reset),
            State::Live { .. } => Outcome::ProtocolError,
            State::Bare => Outcome::TurnedAway,
            State::Securing(_) | State::Upgrading(_) => Outcome::HandshakeFailed,
            state @ (State::Absent | State::Connecting(_) | State::Leaving) => {
                unreachable!("TLS while {state:?}")
            }
        }
    }
}
