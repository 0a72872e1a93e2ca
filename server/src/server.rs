//! A server: its listeners, and the start of its shards.

mod running;
mod thread;

use std::{
    net::{SocketAddr, ToSocketAddrs},
    os::fd::OwnedFd,
    sync::Arc,
};

pub use self::running::Running;
use self::thread::ShardThread;
use crate::{
    Config, Error, Handler, PublishToken,
    control::AdminListener,
    driver::{self, SharedCore},
    host, listen,
    shard::Parts,
};

/// A server that listens, and does not accept yet.
#[derive(Debug)]
pub struct Server {
    config: Config,
    address: SocketAddr,
    listeners: Vec<OwnedFd>,
    admin: Option<AdminListener>,
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
        let shared_cores: Vec<Arc<SharedCore>> = cores.iter().map(|_| Arc::default()).collect();
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
                shared_core: shared_cores.get(place).filter(|_| core_shards > 1).cloned(),
                config: self.config.clone(),
            };
            match ShardThread::start(plan, parts, make.clone(), ended.clone(), running.remote()) {
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
