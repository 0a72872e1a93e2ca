//! The opening handshake: from the bytes of a request to an open connection.

use tidewheel_codec::{deflate::Agreement, handshake::Request};

use super::{core::Lifecycle, visit::Visit};
use crate::{
    Handler, Rejection, Verdict,
    admission::Refusal,
    connection::{Head, Phase},
    contain::{self, Callback},
    outbox::Lane,
    ring::Ring,
    stats::Rejected,
};

impl<R: Ring, H: Handler> Visit<'_, R, H> {
    /// Parses a request of which more bytes have arrived, and answers it if it is complete. Returns the index
    /// in `bytes` at which frames begin, if the request was accepted.
    pub(super) fn receive_request(&mut self, bytes: &[u8]) -> Option<usize> {
        let Phase::Handshake { head, .. } = &mut self.connection.phase else {
            return None;
        };
        if head.is_empty() {
            return self.request(bytes);
        }
        let had = head.len();
        if !head.extend(bytes, &self.core.settings.request) {
            return None;
        }
        let head = std::mem::take(head);
        let size = self.request(head.bytes());
        if let Phase::Handshake { head: kept, .. } = &mut self.connection.phase {
            *kept = head.parsed(&self.core.settings.request);
        }
        // The request was not complete before these bytes.
        size.map(|size| size.saturating_sub(had))
    }

    /// Answers the request at the start of `bytes`, if it is complete. Returns its size if it was accepted.
    fn request(&mut self, bytes: &[u8]) -> Option<usize> {
        let (request, size) = match Request::parse(bytes, &self.core.settings.request) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => {
                if let Phase::Handshake { head, .. } = &mut self.connection.phase
                    && head.is_empty()
                {
                    *head = Head::new(bytes, &self.core.settings.request);
                }
                return None;
            }
            Err(rejection) => {
                self.refuse(Rejected::Request, &rejection);
                return None;
            }
        };
        if let Phase::Handshake {
            refusal: Some(refusal),
            ..
        } = &self.connection.phase
        {
            let reason = match refusal {
                Refusal::Full => Rejected::Connections,
                Refusal::Network => Rejected::Address,
            };
            let rejection = refusal.rejection();
            self.refuse(reason, &rejection);
            return None;
        }
        if let Err(rejection) = self.core.settings.hosts.check(request.host()) {
            let why = "a client was refused: --host does not list its Host";
            self.core.refusal_log.note(&request, why, self.now);
            self.refuse(Rejected::Host, &rejection);
            return None;
        }
        if let Err(rejection) = self.core.settings.origins.check(&request) {
            let why = "a page was refused: --origin does not list its Origin";
            self.core.refusal_log.note(&request, why, self.now);
            self.refuse(Rejected::Origin, &rejection);
            return None;
        }
        let handler = &mut self.core.handler;
        let verdict = match contain::catch(|| handler.upgrade(&request)) {
            Ok(verdict) => verdict,
            Err(panic) => {
                self.note_panic(Callback::Upgrade, panic);
                let rejection = Rejection::new(500, "internal server error");
                self.refuse(Rejected::Panic, &rejection);
                return None;
            }
        };
        match verdict {
            Verdict::Accept { state, protocol } => {
                let mut accept = request.accept();
                if let Some(protocol) = protocol {
                    accept = accept.with_protocol(protocol);
                }
                let agreement = self.core.endpoint.accept_deflate(request.extensions());
                if let Some(agreement) = &agreement {
                    accept = accept.with_extensions(agreement.to_string());
                }
                self.queue().write(Lane::Control, |out| accept.write(out));
                self.open(state, agreement);
                Some(size)
            }
            Verdict::Reject(rejection) => {
                self.refuse(Rejected::Application, &rejection);
                None
            }
        }
    }

    fn open(&mut self, state: H::State, deflate: Option<Agreement>) {
        let phase = phase_of(self.connection.generation());
        let mut protocol = tidewheel_codec::Connection::new(self.now, phase);
        if let Some(agreement) = deflate {
            protocol = protocol.with_deflate(agreement);
        }
        self.connection.advance(Phase::Open { protocol, state });
        self.core.stats.opens.add(1);
        self.call(Callback::Open, Handler::open);
        if let Lifecycle::Draining(_) = self.core.lifecycle {
            self.start_shutdown();
        }
    }
}

/// A pseudorandom phase, which spreads the pings of connections that opened together (a multiplicative hash).
fn phase_of(generation: u32) -> u16 {
    (generation.wrapping_mul(0x9E37_79B1) >> 16) as u16
}
