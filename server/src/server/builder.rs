//! The settings of a server before it listens.

use super::Server;
#[cfg(feature = "admin")]
use crate::PublishToken;
use crate::{Config, Error};

/// The settings of a server that does not listen yet. [`Server::builder`] returns one.
///
/// A server changes nothing of its process unless it is asked to: it pins no thread, raises no limit, and handles no
/// signal.
///
/// ```no_run
/// use tidewheel::Server;
///
/// let server = Server::builder()
///     .listen("0.0.0.0:8080")
///     .configure(|config| {
///         config.max_connections = Some(100_000);
///         config.max_message_size = 64 << 10;
///     })
///     .raise_descriptor_limit(true)
///     .bind()?;
/// # Ok::<(), tidewheel::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ServerBuilder {
    addresses: Vec<String>,
    config: Config,
    pins_threads: bool,
    raises_descriptor_limit: bool,
    #[cfg(feature = "admin")]
    admin: Option<String>,
    #[cfg(feature = "admin")]
    publish_token: Option<PublishToken>,
}

impl ServerBuilder {
    /// Adds an address to listen on: a host or an IP address, and a port. With port 0 the kernel chooses a free port.
    /// A server has exactly one address.
    pub fn listen(mut self, address: impl ToString) -> Self {
        self.addresses.push(address.to_string());
        self
    }

    /// Changes the limits, deadlines and policies, all of which have defaults. Later calls see the changes of earlier
    /// ones.
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Sets whether each shard is pinned to a core (sched_setaffinity(2)); default `false`.
    ///
    /// It lowers latencies on a host that runs little else. With it, two servers on the same cores get in each
    /// other's way.
    pub fn pin_threads(mut self, pins: bool) -> Self {
        self.pins_threads = pins;
        self
    }

    /// Sets whether the start raises the soft limit on descriptors of the process (`RLIMIT_NOFILE`) to the hard
    /// limit; default `false`.
    ///
    /// The soft limit limits the connections of each shard. It is often 1024.
    pub fn raise_descriptor_limit(mut self, raises: bool) -> Self {
        self.raises_descriptor_limit = raises;
        self
    }

    /// Adds an admin listener on `address`, with a thread of its own. From the start of the server to its end it
    /// serves HTTP: `/metrics`, `/healthz`, `/readyz`, and a dashboard at `/`.
    #[cfg(feature = "admin")]
    pub fn admin(mut self, address: impl ToString) -> Self {
        self.admin = Some(address.to_string());
        self
    }

    /// Lets HTTP clients of the [admin listener](Self::admin) publish, if they have this token: `POST
    /// /publish/TOPIC` with `Authorization: Bearer` (RFC 6750) publishes the body of the request, of up to
    /// [`Config::max_message_size`] bytes. Without an admin listener, the token has no effect.
    #[cfg(feature = "admin")]
    pub fn publish_token(mut self, token: PublishToken) -> Self {
        self.publish_token = Some(token);
        self
    }

    /// Listens on the addresses. Waits up to 5 s for an address whose owner has just ended.
    ///
    /// # Errors
    /// If a setting is out of bounds, or an address cannot be listened on.
    pub fn bind(self) -> Result<Server, Error> {
        let [address] = &self.addresses[..] else {
            return Err(Error::Addresses {
                got: self.addresses.len(),
            });
        };
        let mut server = Server::listen(address, self.config)?;
        server.pins_threads = self.pins_threads;
        server.raises_descriptor_limit = self.raises_descriptor_limit;
        #[cfg(feature = "admin")]
        if let Some(address) = self.admin {
            server.listen_for_admin(&address, self.publish_token)?;
        }
        Ok(server)
    }
}
