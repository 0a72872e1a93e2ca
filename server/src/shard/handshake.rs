//! From the bytes of a request to an open connection.

use tidewheel_codec::{Time, deflate::Agreement, handshake::Request};

use super::{Life, Shard};
use crate::{
    Handler, Rejection, Verdict,
    admission::Refusal,
    connection::{Head, Phase},
    contain::{self, Callback},
    outbox::Lane,
    ring::Ring,
    stats::Rejected,
};

impl<R: Ring, H: Handler> Shard<R, H> {
    /// Looks for a whole request in what has arrived. Gives the place in `bytes` from where on it is
    /// followed by frames, if it was accepted.
    pub(super) fn receive_request(&mut self, slot: u32, bytes: &[u8], now: Time) -> Option<usize> {
        let Phase::Handshake { head, .. } = &mut self.connections[slot as usize].phase else {
            return None;
        };
        if head.is_empty() {
            return self.request(slot, bytes, now);
        }
        let had = head.len();
        if !head.extend(bytes, &self.settings.request) {
            return None;
        }
        let head = std::mem::take(head);
        let size = self.request(slot, head.bytes(), now);
        if let Phase::Handshake { head: kept, .. } = &mut self.connections[slot as usize].phase {
            *kept = head.parsed(&self.settings.request);
        }
        // A request that was whole before would have been answered before.
        size.map(|size| size.saturating_sub(had))
    }

    /// Answers the request at the start of `bytes`, if it is whole; gives its size if it is accepted.
    fn request(&mut self, slot: u32, bytes: &[u8], now: Time) -> Option<usize> {
        let connection = &mut self.connections[slot as usize];
        let (request, size) = match Request::parse(bytes, &self.settings.request) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => {
                if let Phase::Handshake { head, .. } = &mut connection.phase
                    && head.is_empty()
                {
                    *head = Head::new(bytes, &self.settings.request);
                }
                return None;
            }
            Err(rejection) => {
                self.refuse(slot, Rejected::Request, &rejection, now);
                return None;
            }
        };
        if let Phase::Handshake {
            refusal: Some(refusal),
            ..
        } = &connection.phase
        {
            let reason = match refusal {
                Refusal::Full => Rejected::Connections,
                Refusal::Network => Rejected::Address,
            };
            let rejection = refusal.rejection();
            self.refuse(slot, reason, &rejection, now);
            return None;
        }
        if let Err(rejection) = self.settings.origins.check(&request) {
            self.refuse(slot, Rejected::Origin, &rejection, now);
            return None;
        }
        let handler = &mut self.handler;
        let verdict = match contain::catch(|| handler.upgrade(&request)) {
            Ok(verdict) => verdict,
            Err(panic) => {
                self.note_panic(slot, Callback::Upgrade, panic);
                let rejection = Rejection::new(500, "internal server error");
                self.refuse(slot, Rejected::Panic, &rejection, now);
                return None;
            }
        };
        match verdict {
            Verdict::Accept { state, protocol } => {
                let mut accept = request.accept();
                if let Some(protocol) = protocol {
                    accept = accept.with_protocol(protocol);
                }
                let agreement = self.endpoint.accept_deflate(request.extensions());
                if let Some(agreement) = &agreement {
                    accept = accept.with_extensions(agreement.to_string());
                }
                let connection = &mut self.connections[slot as usize];
                let queue = connection.queue.get_or_insert_with(|| self.pool.take());
                queue.write(Lane::Control, |out| accept.write(out));
                self.open(slot, state, agreement, now);
                Some(size)
            }
            Verdict::Reject(rejection) => {
                self.refuse(slot, Rejected::Application, &rejection, now);
                None
            }
        }
    }

    fn open(&mut self, slot: u32, state: H::State, deflate: Option<Agreement>, now: Time) {
        let connection = &mut self.connections[slot as usize];
        let mut protocol = tidewheel_codec::Connection::new(now, phase_of(connection.generation));
        if let Some(agreement) = deflate {
            protocol = protocol.with_deflate(agreement);
        }
        connection.phase = Phase::Open { protocol, state };
        self.stats.opens.add(1);
        self.call(slot, now, Callback::Open, Handler::open);
        if let Life::Draining(_) = self.life {
            self.say_goodbye(slot, now);
        }
    }
}

/// Spreads the pings of connections that opened together (a multiplicative hash).
fn phase_of(generation: u32) -> u16 {
    (generation.wrapping_mul(0x9E37_79B1) >> 16) as u16
}
