//! TLS of the clients: which certificates they trust, and what they offer.

mod session;
mod tickets;
mod verifiers;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, Error, RootCertStore,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, ServerName,
        pem::{self, PemObject},
    },
};

pub(crate) use self::{
    session::{Session, Stage},
    verifiers::describe_error,
};
use self::{
    tickets::Tickets,
    verifiers::{FileVerifier, NoVerification},
};

/// The protocol that a client offers by ALPN (RFC 7301): the opening handshake is HTTP/1.1 (RFC
/// 6455 4.1).
const PROTOCOL: &[u8] = b"http/1.1";

/// The verification of the server's certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Trust {
    /// By the authorities in the system's store, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR`
    /// name.
    System,
    /// By the authorities in this PEM file only. A server certificate in the file is trusted too.
    File(PathBuf),
    /// Not at all.
    Unverified,
}

/// An error of the TLS settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The system's store holds no usable certificate.
    #[error(
        "the system's store has no certificate of an authority{}; install the package ca-certificates, or \
         set --ca or SSL_CERT_FILE",
        .0.as_ref().map(|why| format!(": {why}")).unwrap_or_default()
    )]
    Store(Option<String>),
    /// The file cannot be read, or is not PEM.
    #[error("--ca {path}: {error}")]
    Read {
        /// Path of the file.
        path: String,
        /// The cause.
        error: pem::Error,
    },
    /// The file contains no certificate.
    #[error("--ca {path} contains no PEM certificate (-----BEGIN CERTIFICATE-----)")]
    Empty {
        /// Path of the file.
        path: String,
    },
    /// A certificate in the file is not valid as a trust anchor.
    #[error("--ca {path}: {error}")]
    Unusable {
        /// Path of the file.
        path: String,
        /// The cause.
        error: Error,
    },
    /// rustls rejected a setting.
    #[error("TLS: {0}")]
    Settings(Error),
}

/// TLS settings of all clients of a run. The version is 1.2 or 1.3.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// Name that the certificate must have. It is sent by SNI unless it is an address.
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    /// Sessions that can be resumed; `None` if resumption is off.
    tickets: Option<Arc<Tickets>>,
    trust: Trust,
}

impl Tls {
    /// Makes the settings for the server of this name. With `resumption` each client resumes its
    /// last session.
    ///
    /// # Errors
    /// If there is no certificate to verify the server with, or rustls rejects a setting.
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
            Trust::File(path) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(read_store(path, provider)?)),
            Trust::Unverified => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(NoVerification(provider))),
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        let tickets = resumption.then(Arc::<Tickets>::default);
        config.resumption = match &tickets {
            Some(tickets) => Resumption::store(Arc::<Tickets>::clone(tickets)),
            None => Resumption::disabled(),
        };
        Ok(Self {
            name,
            config: Arc::new(config),
            tickets,
            trust,
        })
    }

    /// Sets the client whose tickets the following calls read and write.
    pub(crate) fn set_client(&self, client: u32) {
        if let Some(tickets) = &self.tickets {
            tickets.set_client(client);
        }
    }

    /// Starts a session of the client that `set_client` has set, and appends its ClientHello to
    /// `sealed`.
    ///
    /// # Errors
    /// Errors of rustls. None is expected with these settings.
    pub(crate) fn session(&self, sealed: &mut Vec<u8>) -> Result<Session, Error> {
        Session::start(Arc::clone(&self.config), self.name.clone(), sealed)
    }
}

impl fmt::Display for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.trust {
            Trust::System => f.write_str("verified by the system's store"),
            Trust::File(path) => write!(f, "verified by {}", path.display()),
            Trust::Unverified => f.write_str("not verified"),
        }
    }
}

fn system_store() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    // A store may contain unreadable certificates besides valid ones.
    let (added, _) = store.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map(ToString::to_string);
        return Err(TlsError::Store(why));
    }
    Ok(store)
}

fn read_store(path: &Path, provider: Arc<CryptoProvider>) -> Result<FileVerifier, TlsError> {
    let name = || path.display().to_string();
    let read = |error| TlsError::Read {
        path: name(),
        error,
    };
    let certificates = CertificateDer::pem_file_iter(path).map_err(read)?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(read)?;
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        let added = store.add(certificate.clone());
        added.map_err(|error| TlsError::Unusable {
            path: name(),
            error,
        })?;
    }
    FileVerifier::new(store, certificates, provider).map_err(|_| TlsError::Empty { path: name() })
}
