//! TLS of one client without I/O. A session has no socket, and no buffer while no partial record is
//! kept.

use std::{fmt, mem, sync::Arc};

use rustls::{
    ClientConfig, Error, HandshakeKind, ProtocolVersion, SupportedCipherSuite,
    client::UnbufferedClientConnection,
    pki_types::ServerName,
    unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus},
};

/// Longest plaintext of a record in bytes (RFC 8446 5.1).
const RECORD_SIZE_MAX: usize = 1 << 14;

/// Upper bound in bytes of the header, type, nonce and tag of a record.
const RECORD_OVERHEAD_MAX: usize = 64;

/// Bytes that are reserved for a handshake message or an alert. Most need no more.
const HANDSHAKE_MESSAGE_SIZE: usize = 1024;

/// TLS of one client.
pub(crate) struct Session {
    connection: UnbufferedClientConnection,
    /// Received bytes of an incomplete record or handshake message. rustls limits them to 18 KiB
    /// and 64 KiB.
    incoming: Vec<u8>,
    stage: Stage,
}

/// State of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stage {
    /// The handshake is under way.
    Handshake,
    /// Data can be sent and received.
    Open,
    /// Either side has sent close_notify (RFC 8446 6.1). Nothing more is read.
    Finished,
    /// The limit of records under one key is reached. Nothing more is sent, because TLS 1.2 cannot
    /// change its keys.
    Exhausted,
}

/// Output that a call asks for.
#[derive(Clone, Copy)]
enum Output<'a> {
    Nothing,
    Data(&'a [u8]),
    CloseNotify,
}

impl Session {
    /// Starts the handshake. This and the following functions append the bytes to send to `sealed`.
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
        session.advance(Output::Nothing, &mut Vec::new(), sealed)?;
        Ok(session)
    }

    pub(crate) const fn stage(&self) -> Stage {
        self.stage
    }

    /// Decrypts received bytes in place, and appends the plaintext to `plain`, also the plaintext
    /// before an error.
    ///
    /// # Errors
    /// If the server violates TLS. The session must not be used again.
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
            return self.advance(Output::Nothing, plain, sealed);
        }
        let (consumed, result) = self.drive(bytes, Output::Nothing, plain, sealed);
        if self.stage != Stage::Finished {
            self.incoming = bytes[consumed..].to_vec();
        }
        result
    }

    /// Encrypts `plain`. Does nothing before the handshake is complete.
    pub(crate) fn seal(&mut self, plain: &[u8], sealed: &mut Vec<u8>) {
        self.send(Output::Data(plain), sealed);
    }

    /// Sends close_notify, unless it was sent before.
    pub(crate) fn close(&mut self, sealed: &mut Vec<u8>) {
        self.send(Output::CloseNotify, sealed);
    }

    /// Returns the protocol version, the cipher suite, and whether a session was resumed. `None`
    /// before the handshake is complete.
    pub(crate) fn agreed(&self) -> Option<(ProtocolVersion, SupportedCipherSuite, HandshakeKind)> {
        let connection = &self.connection;
        Some((
            connection.protocol_version()?,
            connection.negotiated_cipher_suite()?,
            connection.handshake_kind()?,
        ))
    }

    fn send(&mut self, output: Output<'_>, sealed: &mut Vec<u8>) {
        let mut plain = Vec::new();
        let result = self.advance(output, &mut plain, sealed);
        // Complete records were read when they arrived.
        debug_assert!(result.is_ok() && plain.is_empty(), "{result:?}");
    }

    /// Processes the received bytes and `output`. rustls remembers positions in an incomplete
    /// handshake message, so each call has to pass the same bytes again, even if it only sends.
    fn advance(
        &mut self,
        output: Output<'_>,
        plain: &mut Vec<u8>,
        sealed: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let mut incoming = mem::take(&mut self.incoming);
        let (consumed, result) = self.drive(&mut incoming, output, plain, sealed);
        if consumed < incoming.len() && self.stage != Stage::Finished {
            incoming.drain(..consumed);
            self.incoming = incoming;
        }
        result
    }

    /// Runs rustls until it needs more bytes than `incoming`. Returns how many of these are
    /// consumed.
    fn drive(
        &mut self,
        incoming: &mut [u8],
        mut output: Output<'_>,
        plain: &mut Vec<u8>,
        sealed: &mut Vec<u8>,
    ) -> (usize, Result<(), Error>) {
        let mut consumed = 0;
        loop {
            let UnbufferedStatus { discard, state } = self
                .connection
                .process_tls_records(&mut incoming[consumed..]);
            consumed += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                consumed += record.discard;
                                plain.extend_from_slice(record.payload);
                            }
                            Err(error) => return (consumed, Err(error)),
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(sealed, HANDSHAKE_MESSAGE_SIZE, |buffer| {
                        encoded(data.encode(buffer))
                    })
                    .expect("rustls encodes each message once");
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => {
                    return (consumed, Ok(()));
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.stage = Stage::Finished;
                    if self.connection.is_handshaking() {
                        return (consumed, Err(Error::HandshakeNotComplete));
                    }
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    if self.stage == Stage::Handshake {
                        self.stage = Stage::Open;
                    }
                    let result = match output {
                        Output::Nothing => Ok(()),
                        Output::Data(data) => {
                            append(sealed, sealed_size_max(data.len()), |buffer| {
                                traffic.encrypt(data, buffer)
                            })
                        }
                        Output::CloseNotify => append(sealed, HANDSHAKE_MESSAGE_SIZE, |buffer| {
                            traffic.queue_close_notify(buffer)
                        }),
                    };
                    if result.is_ok() {
                        return (consumed, Ok(()));
                    }
                    // rustls has queued close_notify.
                    self.stage = Stage::Exhausted;
                    output = Output::Nothing;
                }
                // `ReadEarlyData` occurs on servers only. The enum is non-exhaustive.
                Ok(_) => {
                    let message = "unknown state of the rustls connection".to_owned();
                    return (consumed, Err(Error::General(message)));
                }
                Err(error) => {
                    self.alert(&mut incoming[consumed..], sealed);
                    return (consumed, Err(error));
                }
            }
        }
    }

    /// Appends the alert that reports an error to the server.
    fn alert(&mut self, incoming: &mut [u8], sealed: &mut Vec<u8>) {
        while self.connection.wants_write()
            && let Ok(ConnectionState::EncodeTlsData(mut data)) =
                self.connection.process_tls_records(incoming).state
        {
            append(sealed, HANDSHAKE_MESSAGE_SIZE, |buffer| {
                encoded(data.encode(buffer))
            })
            .expect("rustls encodes each message once");
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

/// Upper bound of the encrypted size of `length` bytes.
const fn sealed_size_max(length: usize) -> usize {
    length + (length / RECORD_SIZE_MAX + 1) * RECORD_OVERHEAD_MAX
}

fn encoded(result: Result<usize, EncodeError>) -> Result<usize, EncryptError> {
    result.map_err(|error| match error {
        EncodeError::InsufficientSize(error) => EncryptError::InsufficientSize(error),
        EncodeError::AlreadyEncoded => unreachable!("rustls encodes each message once"),
    })
}

/// Appends what `write` writes to `out`. The buffer has `size` bytes first, and then the size that
/// `write` asks for.
///
/// # Errors
/// Those of `write`, except `InsufficientSize`.
fn append(
    out: &mut Vec<u8>,
    mut size: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), EncryptError> {
    let start = out.len();
    loop {
        out.resize(start + size, 0);
        match write(&mut out[start..]) {
            Err(EncryptError::InsufficientSize(error)) => size = error.required_size,
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

    /// TLS settings of both ends of a test.
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
                client_received: Vec::new(),
                server_received: Vec::new(),
            }
        }
    }

    /// A client and a server without a network.
    struct Pair {
        client: Session,
        server: ServerConnection,
        /// Bytes from the client that the server has not read.
        sealed: Vec<u8>,
        /// Plaintext that the client has received.
        client_received: Vec<u8>,
        /// Plaintext that the server has received.
        server_received: Vec<u8>,
    }

    impl Pair {
        /// Exchanges bytes until neither side sends more. The client receives `size` bytes at a
        /// time.
        fn exchange(&mut self, size: usize) -> Result<(), Error> {
            loop {
                let mut bytes = self.serve();
                if bytes.is_empty() {
                    return Ok(());
                }
                self.receive(&mut bytes, size)?;
            }
        }

        /// Lets the server read all bytes from the client. Returns its answer.
        fn serve(&mut self) -> Vec<u8> {
            let sealed = mem::take(&mut self.sealed);
            let mut rest = &sealed[..];
            while !rest.is_empty() {
                self.server.read_tls(&mut rest).unwrap();
                // The client reports the error.
                let _ = self.server.process_new_packets();
                // The error says that no more plaintext is available.
                let _ = self.server.reader().read_to_end(&mut self.server_received);
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
                    .receive(piece, &mut self.client_received, &mut self.sealed)?;
            }
            Ok(())
        }
    }

    static MESSAGE: [u8; 40_000] = [0x5a; 40_000];

    #[test]
    fn data_arrives_at_every_split_of_the_records() {
        for (version, number) in [
            (&TLS12, ProtocolVersion::TLSv1_2),
            (&TLS13, ProtocolVersion::TLSv1_3),
        ] {
            let settings = Settings::new(version);
            for size in [1, 2, 5, 6, 100, 1000, 16_384, usize::MAX] {
                let mut pair = settings.pair("server.test");
                assert_eq!(pair.client.stage(), Stage::Handshake);
                pair.exchange(size).unwrap();
                assert_eq!(pair.client.stage(), Stage::Open, "{version:?} {size}");
                assert_eq!(pair.client.agreed().unwrap().0, number);
                pair.client.seal(&MESSAGE, &mut pair.sealed);
                let before = pair.sealed.len();
                assert!((40_000..40_000 + 3 * RECORD_OVERHEAD_MAX).contains(&before));
                pair.exchange(size).unwrap();
                assert_eq!(pair.server_received, MESSAGE);
                // The buffer limit of the server is not under test.
                pair.server.set_buffer_limit(None);
                pair.server.writer().write_all(&MESSAGE).unwrap();
                pair.exchange(size).unwrap();
                assert_eq!(pair.client_received, MESSAGE, "{version:?} {size}");
                assert_eq!(
                    pair.client.incoming.capacity(),
                    0,
                    "no partial record is kept"
                );
            }
        }
    }

    #[test]
    fn data_sent_during_a_handshake_message_of_many_records_arrives() {
        let mut settings = Settings::new(&TLS13);
        let server = Arc::get_mut(&mut settings.server).unwrap();
        // Certificates and tickets take several records.
        server.max_fragment_size = Some(64);
        let mut pair = settings.pair("server.test");
        let mut sent_count = 0;
        while !pair.sealed.is_empty() {
            for byte in pair.serve().chunks_mut(1) {
                pair.receive(byte, 1).unwrap();
                if pair.client.stage() == Stage::Open {
                    pair.client.seal(b"word", &mut pair.sealed);
                    sent_count += 1;
                }
            }
        }
        // The client sent after each byte of the tickets.
        assert!(sent_count > 100, "{sent_count}");
        assert_eq!(pair.server_received.len(), sent_count * 4);
    }

    #[test]
    fn a_second_handshake_resumes_the_session_of_the_first() {
        for version in [&TLS12, &TLS13] {
            let settings = Settings::new(version);
            let kinds = [(); 2].map(|()| {
                let mut pair = settings.pair("server.test");
                pair.exchange(usize::MAX).unwrap();
                pair.client.agreed().unwrap().2
            });
            let expected = [HandshakeKind::Full, HandshakeKind::Resumed];
            assert_eq!(kinds, expected, "{version:?}");
        }
    }

    #[test]
    fn bytes_after_close_notify_are_dropped_and_close_notify_is_sent_once() {
        for version in [&TLS12, &TLS13] {
            let mut pair = Settings::new(version).pair("server.test");
            pair.exchange(usize::MAX).unwrap();
            pair.server.writer().write_all(b"last message").unwrap();
            pair.server.send_close_notify();
            pair.exchange(3).unwrap();
            assert_eq!(pair.client_received, b"last message");
            assert_eq!(pair.client.stage(), Stage::Finished);
            pair.receive(&mut [0x17; 100], 7).unwrap();
            assert_eq!(pair.client.incoming.capacity(), 0);
            pair.client.close(&mut pair.sealed);
            let length = pair.sealed.len();
            assert!(length > 0);
            pair.client.close(&mut pair.sealed);
            assert_eq!(pair.sealed.len(), length, "close_notify is sent once");
            pair.exchange(usize::MAX).unwrap();
            assert_eq!(pair.server.reader().read(&mut [0]).unwrap(), 0);
        }
    }

    #[test]
    fn a_certificate_for_another_name_is_rejected_with_an_alert() {
        for version in [&TLS12, &TLS13] {
            let mut pair = Settings::new(version).pair("other.test");
            let error = pair.exchange(100).unwrap_err();
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
    fn plaintext_http_is_an_error() {
        for size in [1, 7, usize::MAX] {
            let mut pair = Settings::new(&TLS13).pair("server.test");
            let mut bytes = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec();
            let error = pair.receive(&mut bytes, size).unwrap_err();
            assert!(matches!(error, Error::InvalidMessage(_)), "{error}");
        }
    }

    #[test]
    fn a_modified_record_is_an_error_after_the_records_before_it() {
        for version in [&TLS12, &TLS13] {
            let mut pair = Settings::new(version).pair("server.test");
            pair.exchange(usize::MAX).unwrap();
            let mut bytes = Vec::new();
            for message in [b"first", b"other"] {
                pair.server.writer().write_all(message).unwrap();
                pair.server.write_tls(&mut bytes).unwrap();
            }
            *bytes.last_mut().unwrap() ^= 1;
            let error = pair.receive(&mut bytes, usize::MAX).unwrap_err();
            assert!(matches!(error, Error::DecryptError), "{error}");
            assert_eq!(pair.client_received, b"first");
        }
    }
}
