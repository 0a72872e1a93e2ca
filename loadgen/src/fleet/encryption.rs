//! TLS between the frames and the sockets of a fleet, where the server has a `wss://` URL.

use crate::{
    fleet::{
        Fleet,
        client::{Stage, State},
        event::Event,
        outcome::{Expected, Outcome, TransportEnd},
        tls_sessions::TlsSessions,
    },
    measure::clock::Moment,
    tls,
};

impl Fleet {
    /// Returns the TLS sessions, if the server has a `wss://` URL.
    pub(crate) const fn tls_sessions(&self) -> Option<&TlsSessions> {
        self.tls.as_ref()
    }

    /// Starts the TLS handshake of a client that is connected; returns the event of a failure.
    pub(super) fn start_tls(&mut self, client: u32) -> Option<Event> {
        self.select_output(client);
        let error = self.tls.as_mut()?.start(client).err()?;
        let detail = Some(tls::describe_error(&error));
        Some(self.end(client, Outcome::HandshakeFailed, detail))
    }

    /// Decrypts received bytes if TLS is used, and handles them.
    pub(super) fn decrypt(
        &mut self,
        client: u32,
        bytes: &mut [u8],
        now: Moment,
        events: &mut Vec<Event>,
    ) {
        let Some(sessions) = &mut self.tls else {
            return self.read(client, bytes, now, events);
        };
        let Some((stage, result)) = sessions.receive(client, bytes) else {
            return;
        };
        if let State::Securing(opening) = self.clients[client as usize].state
            && stage != tls::Stage::Handshake
        {
            sessions.count_handshake(client);
            events.extend(self.open(client, opening));
        }
        self.read_plain(client, now, events);
        if matches!(self.clients[client as usize].state, State::Leaving) {
            return;
        }
        match result {
            Err(error) => {
                let outcome = self.outcome_of_tls_error(client);
                // The alert is sent too.
                self.flush();
                events.push(self.end(client, outcome, Some(tls::describe_error(&error))));
            }
            Ok(()) if self.is_silent(client) => self.tls.iter_mut().for_each(TlsSessions::clear),
            Ok(()) if stage == tls::Stage::Finished => self.queue_close_notify(client),
            Ok(()) => {}
        }
    }

    /// Handles the decrypted bytes.
    fn read_plain(&mut self, client: u32, now: Moment, events: &mut Vec<Event>) {
        let Some(sessions) = &mut self.tls else {
            return;
        };
        let mut plain = sessions.take_plain();
        if !plain.is_empty() {
            self.read(client, &mut plain, now, events);
        }
        if let Some(sessions) = &mut self.tls {
            sessions.restore_plain(plain);
        }
    }

    /// Queues close_notify behind the output of a client, if TLS is used.
    pub(super) fn queue_close_notify(&mut self, client: u32) {
        if self.tls.is_some() {
            self.select_output(client);
        }
        if let Some(sessions) = &mut self.tls
            && sessions.close(client, &self.output)
        {
            self.output.clear();
        }
    }

    /// Returns the end of a client's transport with regard to TLS.
    ///
    /// A server that has sent close_notify may have closed its socket already. Then its kernel
    /// answers the client's close_notify with RST, which is not the server's fault.
    pub(super) fn transport_end(&self, client: u32, end: TransportEnd) -> TransportEnd {
        let sessions = self.tls.as_ref();
        match sessions.and_then(|sessions| sessions.stage(client)) {
            Some(tls::Stage::Finished) => TransportEnd::Fin,
            Some(tls::Stage::Handshake | tls::Stage::Open | tls::Stage::Exhausted) | None => end,
        }
    }

    /// Describes an end of the transport that came too early.
    pub(super) fn describe_end(&self, client: u32, end: TransportEnd) -> String {
        let sessions = self.tls.as_ref();
        match sessions.and_then(|sessions| sessions.stage(client)) {
            Some(tls::Stage::Handshake) => format!("TLS: {end} in the handshake"),
            Some(tls::Stage::Exhausted) => {
                format!("TLS: {end}, after more records than 1.2 has keys for")
            }
            Some(tls::Stage::Open | tls::Stage::Finished) | None => end.to_string(),
        }
    }

    /// Returns whether a client has stopped answering.
    pub(super) fn is_silent(&self, client: u32) -> bool {
        let state = &self.clients[client as usize].state;
        matches!(
            state,
            State::Live {
                stage: Stage::Open(Expected::Silence | Expected::Fin),
                ..
            }
        )
    }

    /// Returns the outcome of a connection whose TLS session failed or was ended by an alert.
    fn outcome_of_tls_error(&self, client: u32) -> Outcome {
        match &self.clients[client as usize].state {
            State::Live {
                stage: Stage::Open(expected @ (Expected::Silence | Expected::Fin)),
                received,
                ..
            } => Outcome::of(*expected, *received, TransportEnd::Reset),
            State::Live { .. } => Outcome::ProtocolError,
            State::Bare => Outcome::TurnedAway,
            State::Securing(_) | State::Upgrading(_) => Outcome::HandshakeFailed,
            state @ (State::Absent | State::Connecting(_) | State::Leaving) => {
                unreachable!("TLS error in state {state:?}")
            }
        }
    }
}
