//! A server: its listeners and its shards.

mod block_on;
mod builder;
mod event;
mod running;
mod shard_context;
mod signals;
mod thread;

use std::{net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use self::thread::ShardThread;
pub use self::{builder::ServerBuilder, running::Running, shard_context::ShardContext};
use crate::{
    BoxError, Config, Error, Handler,
    driver::{self, SharedCore},
    host, listen,
    shard::Parts,
};
#[cfg(feature = "admin")]
use crate::{
    PublishToken,
    control::{AdminListener, ControlPlane},
};

/// A server that listens, but does not accept connections yet.
#[derive(Debug)]
pub struct Server {
    config: Config,
    address: SocketAddr,
    listeners: Vec<OwnedFd>,
    pins_threads: bool,
    raises_descriptor_limit: bool,
    #[cfg(feature = "admin")]
    admin: Option<AdminListener>,
}

impl Server {
    /// Returns the settings of a server, all with their defaults. The address to listen on has no default.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Listens on an address.
    fn listen(address: &str, config: Config) -> Result<Self, Error> {
        config.check()?;
        let resolved = listen::resolve(address)?;
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
            pins_threads: false,
            raises_descriptor_limit: false,
            #[cfg(feature = "admin")]
            admin: None,
        })
    }

    /// Adds an admin listener on `address`.
    #[cfg(feature = "admin")]
    pub(crate) fn listen_for_admin(
        &mut self,
        address: &str,
        publish_token: Option<PublishToken>,
    ) -> Result<(), Error> {
        let listener = listen::admin(listen::resolve(address)?)?;
        self.admin = Some(AdminListener {
            listener,
            publish_token,
            message_bytes_max: self.config.max_message_size,
            hosts: self.config.hosts.clone(),
            log_lines_lost: || 0,
        });
        Ok(())
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
    #[cfg(feature = "admin")]
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
    /// If a shard or the admin listener cannot start, or `make` fails ([`Error::Handler`]). Shards that have started
    /// are stopped.
    pub fn start<H: Handler>(
        self,
        make: impl FnOnce(&ShardContext) -> Result<H, BoxError> + Clone + Send + 'static,
    ) -> Result<Running, Error> {
        if self.raises_descriptor_limit {
            host::raise_descriptor_limit();
        }
        let limit = u32::try_from(host::descriptor_limit()).unwrap_or(u32::MAX);
        let parts = Parts::of_server(&self.config, limit);
        let cores = host::core_ids();
        let shards = self.listeners.len() as u16;
        let core_shards = self.listeners.len().div_ceil(cores.len().max(1)) as u16;
        let shared_cores: Vec<Arc<SharedCore>> = cores.iter().map(|_| Arc::default()).collect();
        let (event_sender, events) = tokio::sync::mpsc::unbounded_channel();
        // Dropped after an error, which stops the shards that have started.
        let mut running = Running {
            shards: Vec::new(),
            publisher: parts[0].publisher(),
            events,
            event_sender,
            #[cfg(feature = "admin")]
            control: None,
        };
        for (mut parts, listener) in parts.into_iter().zip(self.listeners) {
            parts.core_shards = core_shards;
            parts.address = self.address;
            let index = parts.index;
            let core = usize::from(index) % cores.len().max(1);
            let plan = driver::Plan {
                index,
                listener,
                core: cores.get(core).copied().filter(|_| self.pins_threads),
                shared_core: shared_cores.get(core).filter(|_| core_shards > 1).cloned(),
                config: self.config.clone(),
            };
            let context = ShardContext::new(index, shards, running.publisher());
            let events = running.event_sender.clone();
            let shard = ShardThread::start(plan, parts, context, make.clone(), events)?;
            running.shards.push(shard);
        }
        #[cfg(feature = "admin")]
        if let Some(admin) = self.admin {
            let release_memory = self.config.release_memory;
            let control = ControlPlane::start(admin, running.publisher(), release_memory)?;
            running.control = Some(control);
        }
        Ok(running)
    }

    /// Starts the shards, serves until SIGTERM, SIGINT or SIGHUP, and drains: [`Server::start`] and
    /// [`Running::run_until_signal`].
    ///
    /// # Errors
    /// Those of [`Server::start`] and [`Running::run_until_signal`].
    pub fn run<H: Handler>(
        self,
        make: impl FnOnce(&ShardContext) -> Result<H, BoxError> + Clone + Send + 'static,
    ) -> Result<(), Error> {
        self.start(make)?.run_until_signal(|| ())
    }
}
