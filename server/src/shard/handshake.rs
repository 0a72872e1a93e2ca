//! The bytes of a request, and its answer: an open connection, or an HTTP response.

use std::net::SocketAddr;

use tidewheel_codec::{
    deflate::Agreement,
    handshake::{self, Accept, Rejection},
};

use super::{core::Lifecycle, visit::Visit};
use crate::{
    Handler, Request, Response, Verdict,
    admission::Refusal,
    connection::{Head, Phase},
    contain::{self, Callback},
    outbox::Lane,
    ring::Ring,
    stats::Rejected,
    verdict::{Decision, Opening},
};
#[cfg(feature = "tasks")]
use crate::{connection::Undecided, later::Output};

/// The response after which a client sends the body of its request (RFC 9110 15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl<R: Ring, H: Handler> Visit<'_, R, H> {
    /// Parses a request of which more bytes have arrived, and answers it if it is complete. Returns the index
    /// in `bytes` at which frames begin, if the request was accepted.
    pub(super) fn receive_request(&mut self, bytes: &[u8]) -> Option<usize> {
        let Phase::Handshake { head, peer, .. } = &mut self.connection.phase else {
            return None;
        };
        let (had, peer) = (head.len(), *peer);
        if had > 0 && !head.extend(bytes, &self.core.settings.request) {
            return None;
        }
        let head = std::mem::take(head);
        let size = self.request(if had > 0 { head.bytes() } else { bytes }, peer);
        if let Phase::Handshake { head: kept, .. } = &mut self.connection.phase {
            let limits = &self.core.settings.request;
            *kept = match had {
                0 => Head::new(bytes, limits),
                _ => head.parsed(limits),
            };
        }
        // The request was not complete before these bytes.
        size.map(|size| size.saturating_sub(had))
    }

    /// Answers the request at the start of `bytes`, if it is complete. Returns its size if it was accepted.
    fn request(&mut self, bytes: &[u8], peer: SocketAddr) -> Option<usize> {
        let parsed = handshake::Request::parse_head(bytes, &self.core.settings.request);
        let (request, size) = match parsed {
            Ok(Some((parsed, size))) => {
                let settings = &self.core.settings;
                let request = Request::new(parsed, peer, settings.address, &settings.proxies);
                (request, size)
            }
            Ok(None) => return None,
            Err(rejection) => {
                self.refuse(Rejected::Request, &rejection.into());
                return None;
            }
        };
        if let Err((reason, rejection)) = self.check(&request) {
            self.refuse(reason, &Response::from(rejection).to(&request));
            return None;
        }
        if bytes.len() < size {
            // The head is parsed again only when the request may be complete, so this is sent once.
            if request.parsed().expects_continue() && request.body().is_empty() {
                let queue = self.queue();
                queue.write(Lane::Control, |out| out.extend_from_slice(CONTINUE));
            }
            return None;
        }
        tracing::debug!(
            target: "tidewheel::handshake",
            connection = %self.id(),
            client = %request.client(),
            method = request.method(),
            path = request.path(),
            "request"
        );
        if request.parsed().asks_for_websocket() {
            return self.upgrade(&request).then_some(size);
        }
        self.http(&request).then_some(size)
    }

    /// Checks a request before its body has arrived.
    fn check(&mut self, request: &Request<'_>) -> Result<(), (Rejected, Rejection)> {
        if let Phase::Handshake {
            refusal: Some(refusal),
            ..
        } = &self.connection.phase
        {
            let reason = match refusal {
                Refusal::Full => Rejected::Connections,
                Refusal::Network => Rejected::Address,
            };
            return Err((reason, refusal.rejection()));
        }
        if !request.has_utf8_path() {
            let rejection = Rejection::new(400, "the path is not UTF-8");
            return Err((Rejected::Request, rejection));
        }
        self.core
            .settings
            .hosts
            .check(request.host())
            .map_err(|rejection| {
                let why = "a client was refused: its Host is not one of the accepted hosts";
                self.core.refusal_log.note(request, why, self.now);
                (Rejected::Host, rejection)
            })
    }

    /// Answers a request without an upgrade. Returns whether the answer follows later.
    fn http(&mut self, request: &Request<'_>) -> bool {
        let handler = &mut self.core.handler;
        let response = match contain::catch(|| handler.http(request)) {
            Ok(response) => response.to(request),
            Err(panic) => {
                self.note_panic(Callback::Http, panic);
                Response::internal_server_error().to(request)
            }
        };
        #[cfg(feature = "tasks")]
        if response.is_later() {
            let is_for_head = request.method() == "HEAD";
            let task = async { Output::Response(response.resolved().await) };
            return self.decide_later(Undecided::Http { is_for_head }, Box::pin(task));
        }
        self.respond(&response);
        false
    }

    /// Answers a request without an upgrade.
    pub(super) fn respond(&mut self, response: &Response) {
        // The client has to upgrade.
        if response.status() == 426 {
            return self.refuse(Rejected::Request, response);
        }
        self.core.stats.http_requests.add(1);
        self.answer(response);
    }

    /// Answers a request for a WebSocket. Returns whether it was accepted, or the answer follows later.
    fn upgrade(&mut self, request: &Request<'_>) -> bool {
        let accept = match request.parsed().upgrade() {
            Ok(accept) => accept,
            Err(rejection) => {
                self.refuse(Rejected::Request, &rejection.into());
                return false;
            }
        };
        if let Err(rejection) = self.core.settings.origins.check(request) {
            let why = "a page was refused: its Origin is not one of the accepted origins";
            self.core.refusal_log.note(request, why, self.now);
            self.refuse(Rejected::Origin, &rejection.into());
            return false;
        }
        if self.core.later.is_full() {
            self.refuse(Rejected::Undecided, &Response::busy("the server is busy"));
            return false;
        }
        let handler = &mut self.core.handler;
        let verdict = match contain::catch(|| handler.upgrade(request)) {
            Ok(verdict) => verdict,
            Err(panic) => {
                self.note_panic(Callback::Upgrade, panic);
                self.refuse(Rejected::Panic, &Response::internal_server_error());
                return false;
            }
        };
        let offers = || {
            let extensions = request.parsed().extensions();
            (request.protocols(), extensions)
        };
        #[cfg(feature = "tasks")]
        if verdict.is_later() {
            let (protocols, extensions) = offers();
            let request = Undecided::Upgrade {
                accept,
                protocols: protocols.map(str::to_owned).collect(),
                extensions: extensions.map(str::to_owned).collect(),
            };
            let task = async { Output::Verdict(Box::new(verdict.resolved().await)) };
            return self.decide_later(request, Box::pin(task));
        }
        self.execute(verdict, accept, offers())
    }

    /// Accepts or refuses a request for a WebSocket with these subprotocols and extensions. Returns whether it was
    /// accepted.
    pub(super) fn execute<'o>(
        &mut self,
        verdict: Verdict<H::State>,
        accept: Accept<'_>,
        offers: (impl Iterator<Item = &'o str>, impl Iterator<Item = &'o str>),
    ) -> bool {
        let (decision, opening) = verdict.into_parts();
        match decision {
            Decision::Accept(state) => self.accept(accept, offers, &opening, state),
            Decision::Reject(response) => {
                self.refuse(Rejected::Application, &response);
                false
            }
            #[cfg(feature = "tasks")]
            Decision::Later(_) => unreachable!("a verdict is executed when it is there"),
        }
    }

    /// Opens the connection, unless the application has selected a subprotocol that the client did not offer:
    /// the client would fail the connection (RFC 6455 4.1). Returns whether it is open.
    fn accept<'o>(
        &mut self,
        accept: Accept<'_>,
        (mut protocols, extensions): (impl Iterator<Item = &'o str>, impl Iterator<Item = &'o str>),
        opening: &Opening,
        state: H::State,
    ) -> bool {
        if let Some(protocol) = opening.protocol()
            && protocols.all(|offered| offered != protocol)
        {
            tracing::error!(
                target: "tidewheel::handshake",
                protocol,
                "the handler selected a subprotocol that the client did not offer"
            );
            self.refuse(Rejected::Application, &Response::internal_server_error());
            if let Err(panic) = contain::catch(|| drop(state)) {
                self.note_panic(Callback::DropState, panic);
            }
            return false;
        }
        let mut accept = opening.add_to(accept);
        let agreement = self.core.endpoint.accept_deflate(extensions);
        if let Some(agreement) = &agreement {
            accept = accept.with_extensions(agreement.to_string());
        }
        self.queue().write(Lane::Control, |out| accept.write(out));
        self.open(state, agreement);
        true
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
