//! Test servers with TLS: a proxy in front of a Tidewheel server, and servers with any behaviour.
//! The certificates are made for each test.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustls::{
    ALL_VERSIONS, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
    crypto::ring, pki_types::PrivateKeyDer,
};
use tempfile::NamedTempFile;

use crate::misbehaving_servers::serve;

/// A certificate authority with a certificate for its name.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: NamedTempFile,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(issuer.pem().as_bytes()).unwrap();
        Self { issuer, file }
    }

    /// Returns the path of its certificate, for `--ca`.
    pub(crate) fn path(&self) -> &str {
        self.file.path().to_str().unwrap()
    }

    /// Makes the TLS settings of a server with a certificate for these names.
    pub(crate) fn server(
        &self,
        names: &[&str],
        versions: &[&'static SupportedProtocolVersion],
    ) -> ServerConfig {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        settings(
            &params.signed_by(&key, &self.issuer).unwrap(),
            &key,
            versions,
        )
    }

    /// Makes the TLS settings of a server that uses the certificate of the authority.
    pub(crate) fn own_certificate(&self) -> ServerConfig {
        settings(self.issuer.as_ref(), self.issuer.key(), ALL_VERSIONS)
    }
}

fn settings(
    certificate: &Certificate,
    key: &KeyPair,
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// A TLS connection of a test server.
pub(crate) type Stream = StreamOwned<ServerConnection, TcpStream>;

/// Serves each connection over TLS on its own thread. See [`serve`].
pub(crate) fn serve_tls(
    config: ServerConfig,
    behaviour: impl Fn(&mut Stream) -> io::Result<()> + Clone + Send + 'static,
) -> SocketAddr {
    let config = Arc::new(config);
    serve(move |stream| {
        let tls = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
        behaviour(&mut StreamOwned::new(tls, stream.try_clone()?))
    })
}

/// A Tidewheel echo server without TLS, as a child process.
pub(crate) struct Backend {
    process: Child,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Backend {
    pub(crate) fn start(flags: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args(["__server", "echo", "--shards", "1"])
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut after = |prefix: &str| -> SocketAddr {
            let line = lines.next().unwrap().unwrap();
            line.strip_prefix(prefix).unwrap().parse().unwrap()
        };
        let admin = after("admin on ");
        let address = after("listening on ");
        Self {
            process,
            address,
            admin,
        }
    }

    /// Returns the address of its admin listener, for `--admin`.
    pub(crate) fn admin(&self) -> String {
        self.admin.to_string()
    }

    /// Starts a TLS proxy in front of the server. It runs until the test process ends.
    pub(crate) fn behind(&self, config: ServerConfig) -> SocketAddr {
        let (config, backend) = (Arc::new(config), self.address);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (config, client) = (Arc::clone(&config), client.unwrap());
                thread::spawn(move || terminate(config, client, backend));
            }
        });
        address
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Decrypts input of the client for the backend, and encrypts its answers. FIN and RST are
/// forwarded in both directions.
fn terminate(config: Arc<ServerConfig>, client: TcpStream, backend: SocketAddr) -> io::Result<()> {
    let backend = TcpStream::connect(backend)?;
    for socket in [&client, &backend] {
        socket.set_nodelay(true)?;
    }
    let tls = ServerConnection::new(config).map_err(io::Error::other)?;
    let tls = Arc::new(Mutex::new(tls));
    let back = {
        let (tls, client, backend) = (tls.clone(), client.try_clone()?, backend.try_clone()?);
        thread::spawn(move || {
            if forward_to_client(&tls, &client, &backend).is_err() {
                reset(&client, &backend);
            }
        })
    };
    if forward_to_backend(&tls, &client, &backend).is_err() {
        reset(&client, &backend);
    }
    back.join().map_err(|_| io::ErrorKind::Other.into())
}

/// Forwards from the client to the backend.
fn forward_to_backend(
    tls: &Mutex<ServerConnection>,
    mut client: &TcpStream,
    mut backend: &TcpStream,
) -> io::Result<()> {
    let (mut sealed, mut plain) = ([0; 16 * 1024], Vec::new());
    loop {
        let length = client.read(&mut sealed)?;
        let mut rest = &sealed[..length];
        while !rest.is_empty() {
            let mut tls = tls.lock().unwrap();
            tls.read_tls(&mut rest)?;
            let state = tls.process_new_packets();
            while tls.wants_write() {
                tls.write_tls(&mut client)?;
            }
            state.map_err(io::Error::other)?;
            match tls.reader().read_to_end(&mut plain) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => drop(result?),
            }
            drop(tls);
            backend.write_all(&plain)?;
            plain.clear();
        }
        if length == 0 {
            return backend.shutdown(Shutdown::Write);
        }
    }
}

/// Forwards from the backend to the client.
fn forward_to_client(
    tls: &Mutex<ServerConnection>,
    mut client: &TcpStream,
    mut backend: &TcpStream,
) -> io::Result<()> {
    let mut plain = [0; 16 * 1024];
    loop {
        let length = backend.read(&mut plain)?;
        let mut tls = tls.lock().unwrap();
        match length {
            0 => tls.send_close_notify(),
            _ => tls.writer().write_all(&plain[..length])?,
        }
        while tls.wants_write() {
            tls.write_tls(&mut client)?;
        }
        drop(tls);
        if length == 0 {
            client.shutdown(Shutdown::Write)?;
            // Waits until the other direction has ended too, or both are reset.
            poll(&mut [PollFd::new(&backend, PollFlags::empty())], None)?;
            return backend.take_error()?.map_or(Ok(()), Err);
        }
    }
}

/// Makes the next close send RST, and ends pending reads.
fn reset(client: &TcpStream, backend: &TcpStream) {
    for socket in [client, backend] {
        let linger = rustix::net::sockopt::set_socket_linger(socket, Some(Default::default()));
        linger.expect("SO_LINGER can be set on a socket");
        // It may be shut down already.
        let _ = socket.shutdown(Shutdown::Read);
    }
}
