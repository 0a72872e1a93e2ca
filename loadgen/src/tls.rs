//! TLS: whom clients trust, and what they offer.

mod session;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
};

pub(crate) use self::session::{Session, Stage};

/// What a client offers by ALPN (RFC 7301): a WebSocket is opened by HTTP/1.1 (RFC 6455 4.1).
const PROTOCOL: &[u8] = b"http/1.1";

/// Whose word is taken that the server is who it says it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Trust {
    /// That of the authorities in the system's store, or where `SSL_CERT_FILE` and `SSL_CERT_DIR`
    /// say.
    System,
    /// That of the authorities in a file, and of no others.
    File(PathBuf),
    /// The server's own.
    Anyone,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The system has no authorities.
    #[error(
        "the system's store has no certificate of an authority{}. Install ca-certificates, or \
         name a file by --ca or SSL_CERT_FILE",
        .0.as_ref().map(|why| format!(": {why}")).unwrap_or_default()
    )]
    Store(Option<String>),
    /// The file cannot be read, or is no PEM.
    #[error("--ca {path}: {error}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        error: pem::Error,
    },
    /// There is no certificate in the file.
    #[error("--ca {path} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")]
    Empty {
        /// Which.
        path: String,
    },
    /// What is in the file cannot be an authority's.
    #[error("--ca {path}: {error}")]
    Unusable {
        /// Which.
        path: String,
        /// Why.
        error: Error,
    },
    /// A setting is wrong.
    #[error("TLS: {0}")]
    Settings(Error),
}

/// TLS of all clients of a run: 1.2 and 1.3.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// Whom the certificate must be for; asked for by SNI if it is no address.
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    trust: Trust,
}

impl Tls {
    /// TLS to the server of this name. Sessions are resumed where `resumption` is set.
    ///
    /// # Errors
    /// If nobody is there to be trusted.
    pub(crate) fn new(
        name: ServerName<'static>,
        trust: Trust,
        resumption: bool,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Settings)?;
        let builder = match &trust {
            Trust::System => builder.with_root_certificates(system_store()?),
            Trust::File(path) => builder.with_root_certificates(read_store(path)?),
            Trust::Anyone => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Credulous(provider))),
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        if !resumption {
            config.resumption = Resumption::disabled();
        }
        Ok(Self {
            name,
            config: Arc::new(config),
            trust,
        })
    }

    /// A session of one client; its ClientHello is appended to `sealed`.
    ///
    /// # Errors
    /// Those of rustls, which nothing that is set here leads to.
    pub(crate) fn session(&self, sealed: &mut Vec<u8>) -> Result<Session, Error> {
        Session::start(Arc::clone(&self.config), self.name.clone(), sealed)
    }
}

impl fmt::Display for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.trust {
            Trust::System => f.write_str("checked by the system's store"),
            Trust::File(path) => write!(f, "checked by {}", path.display()),
            Trust::Anyone => f.write_str("not checked"),
        }
    }
}

fn system_store() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    // A store may hold some that nobody can read any more; the others do.
    let (added, _) = store.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map(ToString::to_string);
        return Err(TlsError::Store(why));
    }
    Ok(store)
}

fn read_store(path: &Path) -> Result<RootCertStore, TlsError> {
    let name = || path.display().to_string();
    let read = |error| TlsError::Read {
        path: name(),
        error,
    };
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(read)? {
        let added = store.add(certificate.map_err(read)?);
        added.map_err(|error| TlsError::Unusable {
            path: name(),
            error,
        })?;
    }
    if store.is_empty() {
        return Err(TlsError::Empty { path: name() });
    }
    Ok(store)
}

/// Believes everything.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
