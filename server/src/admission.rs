//! Who may come in: limits that all shards of a server keep together.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use tidewheel_codec::handshake::Rejection;

use crate::Config;

/// After so many seconds a client that was refused may try again (RFC 9110 10.2.3).
const RETRY_AFTER: &str = "5";

/// Counts the connections of a server, and refuses those beyond its limits.
#[derive(Debug)]
pub(crate) struct Admission {
    connections_max: u32,
    per_network_max: Option<u32>,
    connections: AtomicU32,
    /// Connections of each network that has any; empty where they are not limited.
    networks: Mutex<HashMap<Network, u32>>,
}

/// The addresses that count as one: an IPv4 address, or the /64 of an IPv6 address, which is what
/// a single host is given (RFC 6177). Never zero, so that an `Option` of it takes 8 bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub(crate) struct Network(std::num::NonZeroU64);

/// Why a connection is refused before anything is known of its request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// There are as many connections as there may be.
    Full,
    /// There are as many from this network.
    Network,
}

impl Network {
    /// The network of an address; an IPv4 address may come in the dress of IPv6 (RFC 4291 2.5.5.2).
    fn of(address: IpAddr) -> Self {
        let bits = match address.to_canonical() {
            IpAddr::V4(address) => u64::from(u32::from(address)) | 0xffff << 32,
            IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
        };
        // The prefix of all zeros is that of ::1, and nobody's network.
        Self(std::num::NonZeroU64::new(bits).unwrap_or(std::num::NonZeroU64::MIN))
    }
}

impl Admission {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            connections_max: config.max_connections.unwrap_or(u32::MAX),
            per_network_max: config.max_connections_per_address,
            connections: AtomicU32::new(0),
            networks: Mutex::default(),
        }
    }

    /// Whether the addresses of those who come matter.
    pub(crate) fn asks_for_address(&self) -> bool {
        self.per_network_max.is_some()
    }

    /// Counts a connection from `address`, if it may come in; gives its network if that is counted.
    pub(crate) fn enter(&self, address: Option<IpAddr>) -> Result<Option<Network>, Refusal> {
        // Relaxed: the number guards no other memory.
        let room = |count| (count < self.connections_max).then_some(count + 1);
        self.connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .map_err(|_| Refusal::Full)?;
        let (Some(limit), Some(address)) = (self.per_network_max, address) else {
            return Ok(None);
        };
        let network = Network::of(address);
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        let count = networks.entry(network).or_default();
        if *count >= limit {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::Network);
        }
        *count += 1;
        Ok(Some(network))
    }

    /// A connection that had entered is gone.
    pub(crate) fn leave(&self, network: Option<Network>) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        let Some(network) = network else {
            return;
        };
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = networks.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                networks.remove(&network);
            }
        }
    }
}

impl Refusal {
    /// What the client is told.
    pub(crate) fn rejection(self) -> Rejection {
        let rejection = match self {
            Self::Full => Rejection::new(503, "too many connections"),
            Self::Network => Rejection::new(429, "too many connections from your address"),
        };
        rejection.with_header("Retry-After", RETRY_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn admission(max: Option<u32>, per_address: Option<u32>) -> Admission {
        Admission::new(&Config {
            max_connections: max,
            max_connections_per_address: per_address,
            ..Config::default()
        })
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn who_leaves_makes_room() {
        let admission = admission(Some(2), None);
        assert_eq!(admission.enter(None), Ok(None));
        assert_eq!(admission.enter(None), Ok(None));
        assert_eq!(admission.enter(None), Err(Refusal::Full));
        admission.leave(None);
        assert_eq!(admission.enter(None), Ok(None));
    }

    #[test]
    fn networks_are_counted_apart_and_forgotten() {
        let admission = admission(Some(3), Some(1));
        let one = admission.enter(address("192.0.2.1")).unwrap();
        assert_eq!(
            admission.enter(address("::ffff:192.0.2.1")),
            Err(Refusal::Network)
        );
        assert!(admission.enter(address("192.0.2.2")).unwrap().is_some());
        let six = admission.enter(address("2001:db8:1:2::1")).unwrap();
        assert_eq!(
            admission.enter(address("2001:db8:1:3::1")),
            Err(Refusal::Full),
            "who was refused is not counted"
        );
        admission.leave(six);
        admission.leave(one);
        assert!(admission.enter(address("2001:db8:1:2::ffff")).is_ok());
        assert_eq!(
            admission.enter(address("2001:db8:1:2::2")),
            Err(Refusal::Network)
        );
        assert_eq!(admission.networks.lock().unwrap().len(), 2);
    }

    #[test]
    fn loopback_is_a_network() {
        let networks = [
            IpAddr::from(Ipv6Addr::LOCALHOST),
            IpAddr::from(Ipv4Addr::LOCALHOST),
        ];
        assert_ne!(Network::of(networks[0]), Network::of(networks[1]));
    }
}
