//! TLS sessions of the clients of a fleet.

use rustls::{Error, HandshakeKind, ProtocolVersion, SupportedCipherSuite};

use crate::{
    measure::figures::Figures,
    tls::{Session, Stage, Tls},
};

/// TLS sessions of all clients of a fleet, and buffers that they share.
#[derive(Debug)]
pub(crate) struct TlsSessions {
    tls: Tls,
    /// The session of each client that has a TCP connection.
    sessions: Vec<Option<Box<Session>>>,
    /// Decrypted bytes of the client that is being read.
    plain: Vec<u8>,
    /// Encrypted bytes of the client whose output is being written; empty between two flushes.
    sealed: Vec<u8>,
    /// Protocol version and cipher suite of the first handshake.
    agreed: Option<(ProtocolVersion, SupportedCipherSuite)>,
    handshakes_full: u64,
    handshakes_resumed: u64,
}

impl TlsSessions {
    /// Makes room for the sessions of `capacity` clients.
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

    /// Returns the TLS settings that the report names: protocol, cipher suite and trust.
    pub(crate) fn settings(&self) -> [(&'static str, String); 2] {
        let version = match self.agreed {
            Some((ProtocolVersion::TLSv1_2, suite)) => format!("1.2, {:?}", suite.suite()),
            Some((ProtocolVersion::TLSv1_3, suite)) => format!("1.3, {:?}", suite.suite()),
            Some((other, suite)) => format!("{other:?}, {:?}", suite.suite()),
            None => "1.2 or 1.3, no handshake was done".to_owned(),
        };
        [("tls", version), ("certificate", self.tls.to_string())]
    }

    /// Adds the number of full and of resumed handshakes.
    pub(crate) fn figures(&self, figures: &mut Figures) {
        figures.count("tls.handshakes_full", self.handshakes_full);
        figures.count("tls.handshakes_resumed", self.handshakes_resumed);
    }

    /// Starts the handshake of a client; its ClientHello is appended to the encrypted bytes.
    ///
    /// # Errors
    /// Errors of rustls; no setting of this program leads to one.
    pub(super) fn start(&mut self, client: u32) -> Result<(), Error> {
        self.tls.set_client(client);
        let session = self.tls.session(&mut self.sealed)?;
        self.sessions[client as usize] = Some(Box::new(session));
        Ok(())
    }

    /// Decrypts received bytes of a client; returns the stage of its session, and the error of the
    /// session if it failed. Returns `None` if the client has no session.
    pub(super) fn receive(
        &mut self,
        client: u32,
        bytes: &mut [u8],
    ) -> Option<(Stage, Result<(), Error>)> {
        let session = self.sessions[client as usize].as_deref_mut()?;
        self.tls.set_client(client);
        let result = session.receive(bytes, &mut self.plain, &mut self.sealed);
        Some((session.stage(), result))
    }

    /// Takes the decrypted bytes; [`restore_plain`](Self::restore_plain) gives the buffer back.
    pub(super) fn take_plain(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.plain)
    }

    /// Keeps the buffer of [`take_plain`](Self::take_plain) for the next bytes.
    pub(super) fn restore_plain(&mut self, mut plain: Vec<u8>) {
        plain.clear();
        self.plain = plain;
    }

    /// Encrypts `plain`; returns all encrypted bytes of the client, including those that its
    /// session appended itself.
    pub(super) fn seal(&mut self, client: u32, plain: &[u8]) -> &mut Vec<u8> {
        if let Some(session) = &mut self.sessions[client as usize]
            && !plain.is_empty()
        {
            session.seal(plain, &mut self.sealed);
        }
        &mut self.sealed
    }

    /// Encrypts `plain` and appends close_notify; returns false if the client has no session.
    pub(super) fn close(&mut self, client: u32, plain: &[u8]) -> bool {
        let Some(session) = &mut self.sessions[client as usize] else {
            return false;
        };
        if !plain.is_empty() {
            session.seal(plain, &mut self.sealed);
        }
        session.close(&mut self.sealed);
        true
    }

    /// Drops the encrypted bytes.
    pub(super) fn clear(&mut self) {
        self.sealed.clear();
    }

    /// Drops the session of a client whose connection has ended.
    pub(super) fn remove(&mut self, client: u32) {
        self.sessions[client as usize] = None;
    }

    /// Returns the stage of a client's session, if it has one.
    pub(super) fn stage(&self, client: u32) -> Option<Stage> {
        let session = self.sessions[client as usize].as_deref();
        session.map(Session::stage)
    }

    /// Counts the handshake of a client, which is complete.
    pub(super) fn count_handshake(&mut self, client: u32) {
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
