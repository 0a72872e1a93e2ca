//! One client's TLS: bytes in, bytes out. It has no socket and, while nothing is under way, no
//! buffer.

use std::{fmt, mem, sync::Arc};

use rustls::{
    ClientConfig, Error, HandshakeKind, ProtocolVersion, SupportedCipherSuite,
    client::UnbufferedClientConnection,
    pki_types::ServerName,
    unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus},
};

/// The plaintext of a record is so long at most (RFC 8446 5.1), and its header, type, nonce and tag
/// take less than this.
const RECORD_SIZE_MAX: usize = 1 << 14;
const RECORD_OVERHEAD: usize = 64;

/// A handshake message or an alert, mostly.
const HANDSHAKE_ROOM: usize = 1024;

/// TLS of one client.
pub(crate) struct Session {
    connection: UnbufferedClientConnection,
    /// The part of a record, or of a handshake message, whose rest has not arrived. rustls bounds
    /// both: 18 KiB, and 64 KiB.
    incoming: Vec<u8>,
    stage: Stage,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stage {
    /// The handshake is under way.
    Handshake,
    /// Data goes both ways.
    Open,
    /// close_notify was said (RFC 8446 6.1), by either: nothing more is read.
    Finished,
    /// So many records were sent that nothing more may be: TLS 1.2 cannot change its keys.
    Exhausted,
}

/// What a client has to say.
#[derive(Clone, Copy)]
enum Speech<'a> {
    Nothing,
    Data(&'a [u8]),
    CloseNotify,
}

impl Session {
    /// Starts the handshake; what is to be sent is appended to `sealed`, as in all that follows.
    ///
    /// # Errors
    /// Those of [`UnbufferedClientConnection::new`].
    pub(super) fn start(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        sealed: &mut Vec<u8>,
    ) -> Result<Self, Error> {
        let mut session = Self {
            connection: UnbufferedClientConnection::new(config, name)?,
            incoming: Vec::new(),
            stage: Stage::Handshake,
        };
        session.advance(Speech::Nothing, &mut Vec::new(), sealed)?;
        Ok(session)
    }

    pub(crate) const fn stage(&self) -> Stage {
        self.stage
    }

    /// Takes received bytes, which are decrypted where they lie. What the server said is appended
    /// to `plain`, also what it said before an error.
    ///
    /// # Errors
    /// What is wrong with the server's TLS. The session must not be used again.
    pub(crate) fn receive(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
        sealed: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if self.stage == Stage::Finished {
            return Ok(());
        }
        if !self.incoming.is_empty() {
            self.incoming.extend_from_slice(bytes);
            return self.advance(Speech::Nothing, plain, sealed);
        }
        let (taken, result) = self.drive(bytes, Speech::Nothing, plain, sealed);
        if self.stage != Stage::Finished {
            self.incoming = bytes[taken..].to_vec();
        }
        result
    }

    /// Encrypts `plain`, once the handshake is done.
    pub(crate) fn seal(&mut self, plain: &[u8], sealed: &mut Vec<u8>) {
        self.say(Speech::Data(plain), sealed);
    }

    /// Says that nothing follows, once.
    pub(crate) fn close(&mut self, sealed: &mut Vec<u8>) {
        self.say(Speech::CloseNotify, sealed);
    }

    /// The protocol, the suite, and whether a session was resumed, once the handshake is done.
    pub(crate) fn agreed(&self) -> Option<(ProtocolVersion, SupportedCipherSuite, HandshakeKind)> {
        let connection = &self.connection;
        Some((
            connection.protocol_version()?,
            connection.negotiated_cipher_suite()?,
            connection.handshake_kind()?,
        ))
    }

    fn say(&mut self, speech: Speech<'_>, sealed: &mut Vec<u8>) {
        let mut plain = Vec::new();
        let result = self.advance(speech, &mut plain, sealed);
        // What is whole was read when it arrived.
        debug_assert!(result.is_ok() && plain.is_empty(), "{result:?}");
    }

    /// Goes on with what has arrived so far. rustls remembers places in it, where a handshake message
    /// has begun, so it gets the same bytes again, also to say something.
    fn advance(
        &mut self,
        speech: Speech<'_>,
        plain: &mut Vec<u8>,
        sealed: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let mut incoming = mem::take(&mut self.incoming);
        let (taken, result) = self.drive(&mut incoming, speech, plain, sealed);
        if taken < incoming.len() && self.stage != Stage::Finished {
            incoming.drain(..taken);
            self.incoming = incoming;
        }
        result
    }

    /// Goes on until there is nothing left to do with `incoming`; tells how much of it is done
    /// with.
    fn drive(
        &mut self,
        incoming: &mut [u8],
        mut speech: Speech<'_>,
        plain: &mut Vec<u8>,
        sealed: &mut Vec<u8>,
    ) -> (usize, Result<(), Error>) {
        let mut taken = 0;
        loop {
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut incoming[taken..]);
            taken += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                taken += record.discard;
                                plain.extend_from_slice(record.payload);
                            }
                            Err(error) => return (taken, Err(error)),
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(sealed, HANDSHAKE_ROOM, |room| encoded(data.encode(room)))
                        .expect("it is encoded once");
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => {
                    return (taken, Ok(()));
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.stage = Stage::Finished;
                    if self.connection.is_handshaking() {
                        return (taken, Err(Error::HandshakeNotComplete));
                    }
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    if self.stage == Stage::Handshake {
                        self.stage = Stage::Open;
                    }
                    let result = match speech {
                        Speech::Nothing => Ok(()),
                        Speech::Data(data) => append(sealed, room_for(data.len()), |room| {
                            traffic.encrypt(data, room)
                        }),
                        Speech::CloseNotify => append(sealed, HANDSHAKE_ROOM, |room| {
                            traffic.queue_close_notify(room)
                        }),
                    };
                    if result.is_ok() {
                        return (taken, Ok(()));
                    }
                    // rustls says close_notify then.
                    self.stage = Stage::Exhausted;
                    speech = Speech::Nothing;
                }
                // Early data is what a server reads; others are of a rustls to come.
                Ok(_) => {
                    let message = "rustls is in a state that is unknown here".to_owned();
                    return (taken, Err(Error::General(message)));
                }
                Err(error) => {
                    self.alert(&mut incoming[taken..], sealed);
                    return (taken, Err(error));
                }
            }
        }
    }

    /// Appends the alert that tells the server of an error.
    fn alert(&mut self, incoming: &mut [u8], sealed: &mut Vec<u8>) {
        while self.connection.wants_write()
            && let Ok(ConnectionState::EncodeTlsData(mut data)) =
                self.connection.process_tls_records(incoming).state
        {
            append(sealed, HANDSHAKE_ROOM, |room| encoded(data.encode(room)))
                .expect("it is encoded once");
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("incoming", &self.incoming.len())
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

/// Room for so many bytes when they are encrypted.
const fn room_for(length: usize) -> usize {
    length + (length / RECORD_SIZE_MAX + 1) * RECORD_OVERHEAD
}

fn encoded(result: Result<usize, EncodeError>) -> Result<usize, EncryptError> {
    result.map_err(|error| match error {
        EncodeError::InsufficientSize(error) => EncryptError::InsufficientSize(error),
        EncodeError::AlreadyEncoded => unreachable!("each is encoded once"),
    })
}

/// Lets `write` write behind what is in `out`, into `room` bytes, or as many as it asks for.
///
/// # Errors
/// Those of `write`, but that there was too little room.
fn append(
    out: &mut Vec<u8>,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), EncryptError> {
    let start = out.len();
    loop {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Err(EncryptError::InsufficientSize(error)) => room = error.required_size,
            result => {
                out.truncate(start + *result.as_ref().unwrap_or(&0));
                return result.map(drop);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use rcgen::CertifiedKey;
    use rustls::{
        RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion,
        crypto::ring,
        pki_types::PrivateKeyDer,
        version::{TLS12, TLS13},
    };

    use super::*;

    /// What both ends of a test know.
    struct Settings {
        client: Arc<ClientConfig>,
        server: Arc<ServerConfig>,
    }

    impl Settings {
        fn new(version: &'static SupportedProtocolVersion) -> Self {
            let provider = Arc::new(ring::default_provider());
            let CertifiedKey { cert, signing_key } =
                rcgen::generate_simple_self_signed(["server.test".to_owned()]).unwrap();
            let mut roots = RootCertStore::empty();
            roots.add(cert.der().clone()).unwrap();
            let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
            let server = ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![cert.der().clone()], key)
                .unwrap();
            Self {
                client: Arc::new(client),
                server: Arc::new(server),
            }
        }

        fn pair(&self, name: &'static str) -> Pair {
            let mut sealed = Vec::new();
            let name = ServerName::try_from(name).unwrap();
            let client = Session::start(Arc::clone(&self.client), name, &mut sealed).unwrap();
            Pair {
                client,
                server: ServerConnection::new(Arc::clone(&self.server)).unwrap(),
                sealed,
                heard: Vec::new(),
                told: Vec::new(),
            }
        }
    }

    /// A client and a server without a network.
    struct Pair {
        client: Session,
        server: ServerConnection,
        /// From the client, on its way.
        sealed: Vec<u8>,
        /// By the client.
        heard: Vec<u8>,
        /// By the server.
        told: Vec<u8>,
    }

    impl Pair {
        /// Lets both talk until neither has more to say; the client receives `size` bytes at a
        /// time.
        fn talk(&mut self, size: usize) -> Result<(), Error> {
            loop {
                let mut bytes = self.serve();
                if bytes.is_empty() {
                    return Ok(());
                }
                self.receive(&mut bytes, size)?;
            }
        }

        /// Lets the server read what is on its way; gives what it says.
        fn serve(&mut self) -> Vec<u8> {
            let sealed = mem::take(&mut self.sealed);
            let mut rest = &sealed[..];
            while !rest.is_empty() {
                self.server.read_tls(&mut rest).unwrap();
                // The client tells what it thinks of it.
                let _ = self.server.process_new_packets();
                // It ends with what there is so far, or with close_notify.
                let _ = self.server.reader().read_to_end(&mut self.told);
            }
            let mut bytes = Vec::new();
            while self.server.wants_write() {
                self.server.write_tls(&mut bytes).unwrap();
            }
            bytes
        }

        fn receive(&mut self, bytes: &mut [u8], size: usize) -> Result<(), Error> {
            for piece in bytes.chunks_mut(size) {
                self.client
                    .receive(piece, &mut self.heard, &mut self.sealed)?;
            }
            Ok(())
        }
    }

    static MESSAGE: [u8; 40_000] = [0x5a; 40_000];

    #[test]
    fn what_is_said_arrives_however_it_is_split() {
        for (version, number) in [
            (&TLS12, ProtocolVersion::TLSv1_2),
            (&TLS13, ProtocolVersion::TLSv1_3),
        ] {
            let settings = Settings::new(version);
            for size in [1, 2, 5, 6, 100, 1000, 16_384, usize::MAX] {
                let mut pair = settings.pair("server.test");
                assert_eq!(pair.client.stage(), Stage::Handshake);
                pair.talk(size).unwrap();
                assert_eq!(pair.client.stage(), Stage::Open, "{version:?} {size}");
                assert_eq!(pair.client.agreed().unwrap().0, number);
                pair.client.seal(&MESSAGE, &mut pair.sealed);
                let before = pair.sealed.len();
                assert!((40_000..40_000 + 3 * RECORD_OVERHEAD).contains(&before));
                pair.talk(size).unwrap();
                assert_eq!(pair.told, MESSAGE);
                // The server's buffers are no part of this.
                pair.server.set_buffer_limit(None);
                pair.server.writer().write_all(&MESSAGE).unwrap();
                pair.talk(size).unwrap();
                assert_eq!(pair.heard, MESSAGE, "{version:?} {size}");
                assert_eq!(pair.client.incoming.capacity(), 0, "nothing is kept");
            }
        }
    }

    #[test]
    fn what_is_said_amid_a_message_of_many_records_arrives() {
        let mut settings = Settings::new(&TLS13);
        let server = Arc::get_mut(&mut settings.server).unwrap();
        // Certificates and tickets take several records.
        server.max_fragment_size = Some(64);
        let mut pair = settings.pair("server.test");
        let mut said = 0;
        while !pair.sealed.is_empty() {
            for byte in pair.serve().chunks_mut(1) {
                pair.receive(byte, 1).unwrap();
                if pair.client.stage() == Stage::Open {
                    pair.client.seal(b"word", &mut pair.sealed);
                    said += 1;
                }
            }
        }
        // It spoke after each byte of the tickets.
        assert!(said > 100, "{said}");
        assert_eq!(pair.told.len(), said * 4);
    }

    #[test]
    fn a_second_handshake_resumes_the_session_of_the_first() {
        for version in [&TLS12, &TLS13] {
            let settings = Settings::new(version);
            let kinds = [(); 2].map(|()| {
                let mut pair = settings.pair("server.test");
                pair.talk(usize::MAX).unwrap();
                pair.client.agreed().unwrap().2
            });
            let expected = [HandshakeKind::Full, HandshakeKind::Resumed];
            assert_eq!(kinds, expected, "{version:?}");
        }
    }

    #[test]
    fn both_say_close_notify_and_nothing_is_kept_of_what_follows() {
        for version in [&TLS12, &TLS13] {
            let mut pair = Settings::new(version).pair("server.test");
            pair.talk(usize::MAX).unwrap();
            pair.server.writer().write_all(b"last words").unwrap();
            pair.server.send_close_notify();
            pair.talk(3).unwrap();
            assert_eq!(pair.heard, b"last words");
            assert_eq!(pair.client.stage(), Stage::Finished);
            pair.receive(&mut [0x17; 100], 7).unwrap();
            assert_eq!(pair.client.incoming.capacity(), 0);
            pair.client.close(&mut pair.sealed);
            let length = pair.sealed.len();
            assert!(length > 0);
            pair.client.close(&mut pair.sealed);
            assert_eq!(pair.sealed.len(), length, "it is said once");
            pair.talk(usize::MAX).unwrap();
            assert_eq!(pair.server.reader().read(&mut [0]).unwrap(), 0);
        }
    }

    #[test]
    fn a_server_of_another_name_is_told_so() {
        for version in [&TLS12, &TLS13] {
            let mut pair = Settings::new(version).pair("other.test");
            let error = pair.talk(100).unwrap_err();
            assert!(
                matches!(error, Error::InvalidCertificate(_)),
                "{error} {version:?}"
            );
            let mut alert = &pair.sealed[..];
            pair.server.read_tls(&mut alert).unwrap();
            let error = pair.server.process_new_packets().unwrap_err();
            assert!(matches!(error, Error::AlertReceived(_)), "{error}");
        }
    }

    #[test]
    fn what_is_no_tls_is_an_error() {
        for size in [1, 7, usize::MAX] {
            let mut pair = Settings::new(&TLS13).pair("server.test");
            let mut bytes = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec();
            let error = pair.receive(&mut bytes, size).unwrap_err();
            assert!(matches!(error, Error::InvalidMessage(_)), "{error}");
        }
    }

    #[test]
    fn a_record_that_was_tampered_with_is_an_error() {
        for version in [&TLS12, &TLS13] {
            let mut pair = Settings::new(version).pair("server.test");
            pair.talk(usize::MAX).unwrap();
            let mut bytes = Vec::new();
            for message in [b"first", b"other"] {
                pair.server.writer().write_all(message).unwrap();
                pair.server.write_tls(&mut bytes).unwrap();
            }
            *bytes.last_mut().unwrap() ^= 1;
            let error = pair.receive(&mut bytes, usize::MAX).unwrap_err();
            assert!(matches!(error, Error::DecryptError), "{error}");
            assert_eq!(pair.heard, b"first");
        }
    }
}
