//! The server that the clients of a fleet connect to.

use std::{borrow::Cow, net::SocketAddr};

use rustls::pki_types::ServerName;

/// Placeholder for the number of a client's topic in a path.
const TOPIC_PLACEHOLDER: &str = "{topic}";

/// Address of the server, and the request that clients send to it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The server's address.
    pub(crate) address: SocketAddr,
    /// Number of consecutive addresses of the server, from `address` on. Between two addresses there
    /// are only as many connections as ports.
    pub(crate) spread: u32,
    /// The name in the server's certificate, for a `wss://` URL.
    pub(crate) name: Option<ServerName<'static>>,
    /// The `Host` header.
    pub(crate) host: String,
    /// The request's path and query; `{topic}` stands for the number of a topic.
    pub(crate) path: String,
    /// Number of topics; the clients are spread over them.
    pub(crate) topics: u32,
    /// Further headers, as name and value.
    pub(crate) headers: Vec<(String, String)>,
    /// The subprotocol offered.
    pub(crate) protocol: Option<String>,
}

impl Target {
    /// Returns the target `/` of the server at `address`.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self {
            address,
            spread: 1,
            name: None,
            host: address.to_string(),
            path: "/".to_owned(),
            topics: 1,
            headers: Vec::new(),
            protocol: None,
        }
    }

    /// Returns the path that a client requests.
    pub(super) fn path_of(&self, client: u32) -> Cow<'_, str> {
        match self.path.contains(TOPIC_PLACEHOLDER) {
            true => (self
                .path
                .replace(TOPIC_PLACEHOLDER, &(client % self.topics).to_string()))
            .into(),
            false => (&*self.path).into(),
        }
    }

    /// Returns the address that a client connects to.
    pub(super) fn address_of(&self, client: u32) -> SocketAddr {
        let offset = client % self.spread;
        match self.address {
            SocketAddr::V4(address) => {
                let ip = address.ip().to_bits().wrapping_add(offset);
                SocketAddr::from((std::net::Ipv4Addr::from_bits(ip), address.port()))
            }
            SocketAddr::V6(address) => {
                let ip = address.ip().to_bits().wrapping_add(u128::from(offset));
                SocketAddr::from((std::net::Ipv6Addr::from_bits(ip), address.port()))
            }
        }
    }
}
