//! A server: its listeners and its shards.

mod running;
mod shard_context;
mod thread;

use std::{
    net::{SocketAddr, ToSocketAddrs},
    os::fd::OwnedFd,
    sync::Arc,
};

use self::thread::ShardThread;
pub use self::{running::Running, shard_context::ShardContext};
use crate::{
    BoxError, Config, Error, Handler, PublishToken,
    control::AdminListener,
    driver::{self, SharedCore},
    host, listen,
    shard::Parts,
};

/// A server that listens, but does not accept connections yet.
#[derive(Debug)]
pub struct Server {
    config: Config,
    address: SocketAddr,
    listeners: Vec<OwnedFd>,
    admin: Option<AdminListener>,
}

impl Server {
    /// Listens on `address`. With port 0 the kernel chooses a free port. Waits up to 5 s for an address whose
    /// owner has just ended.
    ///
    /// # Errors
    /// If a setting is out of bounds, or the address cannot be listened on.
    pub fn bind(address: impl ToSocketAddrs + ToString, config: Config) -> Result<Self, Error> {
        config.check()?;
        let resolved = listen::resolve(&address)?;
        // Each shard holds at least one connection.
        let connections_max = config.max_connections.unwrap_or(u32::MAX);
        let shards_max = u16::try_from(connections_max).unwrap_or(u16::MAX);
        let shards = config
            .shards
            .unwrap_or_else(|| host::cores().min(shards_max));
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

    /// Adds an admin listener on `address`. It serves HTTP while [`Running::until_signal`] or [`Server::run`] runs:
    /// `/metrics`, `/healthz`, `/readyz`, and a dashboard.
    ///
    /// With a token, `POST /publish/TOPIC` publishes the body of a request, of up to
    /// [`Config::max_message_size`] bytes. The request must have the token (`Authorization: Bearer`, RFC 6750).
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

    /// Adds the number of lost log lines, which `count` returns, to the metrics of the admin listener.
    #[cfg(feature = "cli")]
    pub(crate) fn count_lost_lines(&mut self, count: fn() -> u64) {
        if let Some(admin) = &mut self.admin {
            admin.log_lines_lost = count;
        }
    }

    /// The address that the server listens on, with the real port.
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

    /// Starts the shards. Each shard calls a clone of `make` on its thread, once, for its handler. The operator `?`
    /// within `make` converts errors of any type.
    ///
    /// # Errors
    /// If a shard cannot start, or `make` fails ([`Error::Handler`]). Shards that have started are stopped.
    pub fn start<H: Handler>(
        self,
        make: impl FnOnce(&ShardContext) -> Result<H, BoxError> + Clone + Send + 'static,
    ) -> Result<Running, Error> {
        let limit = host::raise_descriptor_limit();
        let parts = Parts::of_server(&self.config, limit);
        let cores = host::core_ids();
        let shards = self.listeners.len() as u16;
        let core_shards = self.listeners.len().div_ceil(cores.len().max(1)) as u16;
        let shared_cores: Vec<Arc<SharedCore>> = cores.iter().map(|_| Arc::default()).collect();
        let (ended, ends) = tokio::sync::mpsc::unbounded_channel();
        let mut running = Running {
            shards: Vec::new(),
            publisher: parts[0].publisher(),
            release_memory: self.config.release_memory,
            ends,
            admin: self.admin,
        };
        for (mut parts, listener) in parts.into_iter().zip(self.listeners) {
            parts.core_shards = core_shards;
            parts.address = self.address;
            let index = parts.index;
            let core = usize::from(index) % cores.len().max(1);
            let plan = driver::Plan {
                index,
                listener,
                core: cores.get(core).copied(),
                shared_core: shared_cores.get(core).filter(|_| core_shards > 1).cloned(),
                config: self.config.clone(),
            };
            let context = ShardContext {
                index,
                shards,
                publisher: running.publisher(),
            };
            match ShardThread::start(plan, parts, context, make.clone(), ended.clone()) {
                Ok(shard) => running.shards.push(shard),
                Err(error) => {
                    running.stop();
                    return Err(error);
                }
            }
        }
        Ok(running)
    }

    /// Starts the shards, serves until SIGTERM, SIGINT or SIGHUP, and drains: [`Server::start`] and
    /// [`Running::until_signal`].
    ///
    /// # Errors
    /// Those of [`Server::start`] and [`Running::until_signal`].
    pub fn run<H: Handler>(
        self,
        make: impl FnOnce(&ShardContext) -> Result<H, BoxError> + Clone + Send + 'static,
    ) -> Result<(), Error> {
        self.start(make)?.until_signal()
    }
}
