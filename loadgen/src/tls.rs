//! TLS: whom clients trust, and what they offer.

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
    verifiers::told,
};
use self::{
    tickets::Tickets,
    verifiers::{Credulous, File},
};

/// What a client offers by ALPN (RFC 7301): a WebSocket is opened by HTTP/1.1 (RFC 6455 4.1).
const PROTOCOL: &[u8] = b"http/1.1";

/// Whose word is taken that the server is who it says it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Trust {
    /// That of the authorities in the system's store, or where `SSL_CERT_FILE` and `SSL_CERT_DIR`
    /// say.
    System,
    /// That of the authorities in a file, and of no others; or the server's own, if its certificate
    /// is in the file.
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
        /// The reason.
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
        /// The reason.
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
    /// What may be resumed, if anything may.
    tickets: Option<Arc<Tickets>>,
    trust: Trust,
}

impl Tls {
    /// TLS to the server of this name. Each client resumes its last session where `resumption` is
    /// set.
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
            Trust::File(path) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(read_store(path, provider)?)),
            Trust::Anyone => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Credulous(provider))),
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

    /// What sessions are told from now on is told to this client.
    pub(crate) fn turn_to(&self, client: u32) {
        if let Some(tickets) = &self.tickets {
            tickets.turn_to(client);
        }
    }

    /// A session of the client that was turned to; its ClientHello is appended to `sealed`.
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

fn read_store(path: &Path, provider: Arc<CryptoProvider>) -> Result<File, TlsError> {
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
    File::new(store, certificates, provider).map_err(|_| TlsError::Empty { path: name() })
}
