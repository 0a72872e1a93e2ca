//! A server: its listeners, its shards and the thread of each.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use tidewheel_codec::Endpoint;
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    Config, Handler, Hosts, InvalidConfig, PublishToken, Remote, contain, control,
    driver::{self, Failure, Relay},
    host, listen,
    ring::{RingError, raise_descriptors},
    shard::{Command, Parts},
    stats::Stats,
};

/// Why a server cannot start, or has ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of bounds.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The address names no host.
    #[error(
        "cannot resolve {address}: {error}; write an address of this host, or 0.0.0.0:PORT for all of its own"
    )]
    Resolve {
        /// The address as given.
        address: String,
        /// What the resolver said.
        error: io::Error,
    },
    /// The port belongs to another process.
    #[error(
        "cannot listen on {address}: the port is taken; write another, or end its owner (`ss -ltnp 'sport = \
         :{}'` shows it)",
        address.port()
    )]
    PortTaken {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The port is reserved for root.
    #[error(
        "cannot listen on {address}: ports below 1024 are reserved; \
         `setcap cap_net_bind_service=+ep` on the program allows them; or write one from 1024 on"
    )]
    PortReserved {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address is another host's, or nobody's.
    #[error(
        "cannot listen on {address}: this host does not have the address; write one that it has (`ip address` \
         lists them), or {} for all of its own",
        all_addresses(*address)
    )]
    NotOfThisHost {
        /// The address asked for.
        address: SocketAddr,
    },
    /// Anything else that keeps the server from listening.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// The process has no descriptor left for what a server needs.
    #[error(
        "too few descriptors: {error}; RLIMIT_NOFILE is {limit}. {} raises it",
        raise_descriptors(limit.saturating_mul(2).max(1024))
    )]
    Descriptors {
        /// What the kernel said.
        error: io::Error,
        /// The soft limit.
        limit: u64,
    },
    /// There is no io_uring for a shard.
    #[error("shard {shard}: {error}")]
    Ring {
        /// Which shard.
        shard: u16,
        /// Why.
        error: RingError,
    },
    /// A thread cannot be started.
    #[error("cannot start the thread of shard {shard}: {error}")]
    Thread {
        /// Which shard.
        shard: u16,
        /// What the kernel said.
        error: io::Error,
    },
    /// There is no io_uring for the control plane.
    #[error("control plane: {0}")]
    ControlRing(RingError),
    /// The control plane cannot start.
    #[error("cannot start the control plane: {0}")]
    Control(io::Error),
    /// The ring of a running shard has failed.
    #[error("shard {shard} has failed: {error}")]
    Failed {
        /// Which shard.
        shard: u16,
        /// What the kernel said.
        error: io::Error,
    },
    /// A shard has panicked, which is a defect of this library, or of the handler where that is to
    /// [stop the server](crate::PanicPolicy::StopServer).
    #[error("shard {shard} has panicked at {location}: {message}")]
    Panicked {
        /// Which shard.
        shard: u16,
        /// What the panic says.
        message: String,
        /// Its file, line and column.
        location: String,
    },
    /// A second signal cut the drain short.
    #[error("ended by a second signal before all connections were closed")]
    Interrupted,
}

/// The address that stands for all addresses of the host, of the same kind and port.
fn all_addresses(address: SocketAddr) -> SocketAddr {
    let ip = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip, address.port())
}

impl Error {
    /// There is no ring for a shard.
    fn ring(shard: u16, error: RingError) -> Self {
        match error {
            RingError::Other(error) if host::is_out_of_descriptors(&error) => {
                Self::descriptors(error)
            }
            error => Self::Ring { shard, error },
        }
    }

    /// A shard has failed.
    fn failed(shard: u16, failure: Failure) -> Self {
        match failure {
            Failure::Setup(error) => Self::ring(shard, error),
            Failure::Ring(error) => Self::Failed { shard, error },
            Failure::Panic(panic) => Self::Panicked {
                shard,
                message: panic.message().to_owned(),
                location: panic.location().to_owned(),
            },
        }
    }

    /// There is no descriptor left.
    pub(crate) fn descriptors(error: io::Error) -> Self {
        Self::Descriptors {
            error,
            limit: host::descriptor_limit(),
        }
    }
}

/// A server that listens, and does not accept yet.
#[derive(Debug)]
pub struct Server {
    config: Config,
    address: SocketAddr,
    listeners: Vec<OwnedFd>,
    admin: Option<AdminListener>,
}

/// Where HTTP is served to whoever watches the server.
#[derive(Debug)]
pub(crate) struct AdminListener {
    pub(crate) listener: std::net::TcpListener,
    /// Required to publish; without one, nobody can.
    pub(crate) publish_token: Option<PublishToken>,
    /// Bytes of a published message at most.
    pub(crate) message_bytes_max: usize,
    /// Under which names it may be reached.
    pub(crate) hosts: Hosts,
    /// Tells how many lines of the log were lost.
    pub(crate) log_lines_lost: fn() -> u64,
}

impl Server {
    /// Listens on `address`, with port 0 on one of the kernel's choosing. An address that belonged to a
    /// process that has just ended is waited for, up to 5 s.
    ///
    /// # Errors
    /// If the configuration is out of bounds, or the address cannot be listened on.
    pub fn bind(address: impl ToSocketAddrs + ToString, config: Config) -> Result<Self, Error> {
        config.check()?;
        let resolved = listen::resolve(&address)?;
        // Each shard has room for a connection.
        let connections_max = config.max_connections.unwrap_or(u32::MAX);
        let useful = u16::try_from(connections_max).unwrap_or(u16::MAX);
        let shards = config.shards.unwrap_or_else(|| host::cores().min(useful));
        let (listeners, address) = listen::shards(resolved, shards)?;
        let config = Config {
            shards: Some(shards),
            ..config
        };
        Ok(Self {
            config,
            address,
            listeners,
            admin: None,
        })
    }

    /// Also serves HTTP on `address`, while [`Running::until_signal`] or [`Server::run`] runs: `/metrics`,
    /// `/healthz`, `/readyz`, and a page that shows the metrics. With a token, `POST /publish/TOPIC`
    /// publishes the body of a request that has the token (`Authorization: Bearer`, RFC 6750), up to
    /// [`Config::max_message_size`] bytes.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub fn with_admin(
        mut self,
        address: impl ToSocketAddrs + ToString,
        publish_token: Option<PublishToken>,
    ) -> Result<Self, Error> {
        let listener = listen::admin(listen::resolve(&address)?)?;
        self.admin = Some(AdminListener {
            listener,
            publish_token,
            message_bytes_max: self.config.max_message_size,
            hosts: self.config.hosts.clone(),
            log_lines_lost: || 0,
        });
        Ok(self)
    }

    /// Also tells on the admin listener how many lines of the log were lost.
    #[cfg(feature = "cli")]
    pub(crate) fn count_lost_lines(&mut self, count: fn() -> u64) {
        if let Some(admin) = &mut self.admin {
            admin.log_lines_lost = count;
        }
    }

    /// The address, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the admin listener, if there is one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
            .as_ref()
            .and_then(|admin| admin.listener.local_addr().ok())
    }

    /// Starts the shards; `make` makes the handler of each, on its thread.
    ///
    /// # Errors
    /// If a shard cannot start; those that could are stopped.
    pub fn start<H: Handler>(
        self,
        make: impl Fn(u16) -> H + Clone + Send + 'static,
    ) -> Result<Running, Error> {
        let limit = host::raise_descriptor_limit();
        let parts = Parts::of_server(&self.config, limit);
        let cores = host::core_ids();
        let core_shards = self.listeners.len().div_ceil(cores.len().max(1)) as u16;
        let relays: Vec<Arc<Relay>> = cores.iter().map(|_| Arc::default()).collect();
        let (ended, ends) = tokio::sync::mpsc::unbounded_channel();
        let mut running = Running {
            shards: Vec::new(),
            remote: parts[0].remote(),
            release_memory: self.config.release_memory,
            ends,
            admin: self.admin,
        };
        for (mut parts, listener) in parts.into_iter().zip(self.listeners) {
            parts.core_shards = core_shards;
            let index = parts.index;
            let place = usize::from(index) % cores.len().max(1);
            let plan = driver::Plan {
                index,
                listener,
                core: cores.get(place).copied(),
                relay: relays.get(place).filter(|_| core_shards > 1).cloned(),
                config: self.config.clone(),
            };
            match ShardHandle::start(plan, parts, make.clone(), ended.clone(), running.remote()) {
                Ok(shard) => running.shards.push(shard),
                Err(error) => {
                    running.stop();
                    return Err(error);
                }
            }
        }
        Ok(running)
    }

    /// Starts, and serves until SIGTERM, SIGINT or SIGHUP, then drains: [`Server::start`] and
    /// [`Running::until_signal`].
    ///
    /// # Errors
    /// As those.
    pub fn run<H: Handler>(
        self,
        make: impl Fn(u16) -> H + Clone + Send + 'static,
    ) -> Result<(), Error> {
        self.start(make)?.until_signal()
    }
}

/// A server whose shards run.
#[derive(Debug)]
pub struct Running {
    pub(crate) shards: Vec<ShardHandle>,
    pub(crate) remote: Remote,
    pub(crate) release_memory: Option<fn()>,
    pub(crate) ends: tokio::sync::mpsc::UnboundedReceiver<Ended>,
    pub(crate) admin: Option<AdminListener>,
}

/// A shard's thread has ended.
pub(crate) type Ended = Result<(), Error>;

impl Running {
    /// Serves until SIGTERM, SIGINT or SIGHUP; then closes every connection with 1001, and returns when
    /// all are gone, which is within the close timeout. A second signal ends that at once. A process that
    /// was started to ignore SIGHUP, as by `nohup`, goes on ignoring it.
    ///
    /// The calling thread becomes the control plane, on a runtime of its own.
    ///
    /// # Errors
    /// If a shard fails, or a second signal came.
    pub fn until_signal(self) -> Result<(), Error> {
        self.until_signal_once_ready(|| ())
    }

    /// The same; `ready` is called when a signal would be heard, which is the moment to tell
    /// others that the server is there.
    ///
    /// # Errors
    /// As [`Running::until_signal`].
    pub fn until_signal_once_ready(mut self, ready: impl FnOnce()) -> Result<(), Error> {
        let result = control::run(&mut self, ready);
        self.stop();
        result
    }

    /// Waits until all shards have ended, and takes no signal: because they have [drained](Self::drain) or were
    /// [stopped](Self::stop), or because one of them has failed: then the others drain with 1012.
    ///
    /// # Errors
    /// How the first shard has failed, if one has.
    ///
    /// # Panics
    /// Within an asynchronous runtime of tokio: [`Running::wait`] is for that.
    pub fn join(mut self) -> Result<(), Error> {
        let mut result = Ok(());
        for _ in 0..self.shards.len() {
            let ended = self.ends.blocking_recv().unwrap_or(Ok(()));
            result = result.and(ended);
        }
        self.stop();
        result
    }

    /// The same from any asynchronous runtime. Dropping the future stops all shards.
    ///
    /// # Errors
    /// As [`Running::join`].
    pub async fn wait(mut self) -> Result<(), Error> {
        let mut result = Ok(());
        for _ in 0..self.shards.len() {
            let ended = self.ends.recv().await.unwrap_or(Ok(()));
            result = result.and(ended);
        }
        self.stop();
        result
    }

    /// A handle by which any thread publishes, sends and closes.
    #[must_use]
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Begins to drain, without waiting for a signal.
    pub fn drain(&self) {
        self.remote.drain();
    }

    /// Ends all shards now, and waits for their threads. What is open is reset.
    pub fn stop(&mut self) {
        self.remote.command(Command::Stop);
        for shard in &mut self.shards {
            if let Some(thread) = shard.thread.take() {
                // It catches what panics in it.
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A shard's thread, as seen from others.
#[derive(Debug)]
pub(crate) struct ShardHandle {
    pub(crate) stats: Arc<Stats>,
    thread: Option<JoinHandle<()>>,
}

impl ShardHandle {
    fn start<H: Handler>(
        plan: driver::Plan,
        parts: Parts,
        make: impl Fn(u16) -> H + Send + 'static,
        ended: UnboundedSender<Ended>,
        remote: Remote,
    ) -> Result<Self, Error> {
        let endpoint = Endpoint::new(plan.config.protocol()).map_err(InvalidConfig::from)?;
        let shard = plan.index;
        let stats = Arc::clone(&parts.stats);
        let (start, started) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(format!("shard-{shard}"))
            .spawn(move || {
                contain::catch_on_this_thread();
                // Whoever starts it waits until it is ready, or has failed.
                let mut start = Some(start);
                let ready = || {
                    if let Some(start) = start.take() {
                        let _ = start.send(Ok(()));
                    }
                };
                let result =
                    match contain::catch(|| driver::run(plan, parts, endpoint, make, ready)) {
                        Ok(result) => result,
                        Err(panic) => Err(Failure::Panic(panic)),
                    };
                let result = result.map_err(|failure| Error::failed(shard, failure));
                if let Some(start) = start {
                    let _ = start.send(result);
                    return;
                }
                if let Err(error) = &result {
                    tracing::error!(shard, %error, "a shard has failed; the others drain");
                    remote.drain_for_restart(error);
                }
                // Nobody listens any more if the server was stopped.
                let _ = ended.send(result);
            })
            .map_err(|error| Error::Thread { shard, error })?;
        match started.recv() {
            Ok(started) => started.map(|()| Self {
                stats,
                thread: Some(thread),
            }),
            Err(mpsc::RecvError) => unreachable!("the thread says whether it has started"),
        }
    }
}
