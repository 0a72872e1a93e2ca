//! Limits on connections, for all shards of a server together.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use slab::Slab;
use tidewheel_codec::handshake::Rejection;

use crate::Config;

/// Value of `Retry-After` for a refused client, in seconds (RFC 9110 10.2.3).
const RETRY_AFTER: &str = "5";

/// The number of free places of a shard that has ended.
const CLOSED: u32 = u32::MAX;

/// Counts the connections of a server, and refuses connections over a limit.
#[derive(Debug)]
pub(crate) struct Admission {
    connections_max: u32,
    per_network_max: Option<u32>,
    connections: AtomicU32,
    /// Free places of each shard; [`CLOSED`] for a shard that has ended.
    free_places: Box<[FreePlaces]>,
    /// Number of connections of each network; empty if networks are not limited.
    networks: Mutex<HashMap<Network, u32>>,
    /// The peer's address of each connection that is being handed over, and its network if networks are counted,
    /// by ticket.
    handoffs: Mutex<Slab<(SocketAddr, Option<Network>)>>,
}

/// Free places of a shard, in a cache line of its own, because the shard writes it for every connection.
#[derive(Debug, Default)]
#[repr(align(64))]
struct FreePlaces(AtomicU32);

/// An admitted connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Admitted {
    /// The shard in which a place is reserved for it.
    pub(crate) shard: u16,
    /// Its network, if networks are counted.
    pub(crate) network: Option<Network>,
}

/// Addresses that count as one: an IPv4 address, or the /64 prefix of an IPv6 address, which is what one site
/// gets at least (RFC 6177). Never zero, so that an `Option` of it takes 8 bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub(crate) struct Network(std::num::NonZeroU64);

/// The reason why a connection is refused before its request is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// The limit of connections is reached.
    Full,
    /// The limit of connections from this network is reached.
    Network,
}

impl Network {
    /// The network of an address. An IPv4-mapped IPv6 address counts as IPv4 (RFC 4291 2.5.5.2).
    fn of(address: IpAddr) -> Self {
        let bits = match address.to_canonical() {
            IpAddr::V4(address) => u64::from(u32::from(address)) | 0xffff << 32,
            IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
        };
        // The prefix of all zeros has ::1, and no other network uses it.
        Self(std::num::NonZeroU64::new(bits).unwrap_or(std::num::NonZeroU64::MIN))
    }
}

impl Admission {
    pub(crate) fn new(config: &Config) -> Self {
        let shards = 0..config.shards.unwrap_or(1);
        Self {
            connections_max: config.max_connections.unwrap_or(u32::MAX),
            per_network_max: config.max_connections_per_address,
            connections: AtomicU32::new(0),
            free_places: shards.map(|_| FreePlaces::default()).collect(),
            networks: Mutex::default(),
            handoffs: Mutex::default(),
        }
    }

    /// Sets the number of free places of a shard that has a waker.
    pub(crate) fn open(&self, shard: u16, places: u32) {
        // Released after the waker was set, so that a shard that sees the places can wake this one.
        let opened = &self.free_places[usize::from(shard)].0;
        opened.store(places, Ordering::Release);
    }

    /// Closes a shard of `capacity` places that has ended. Removes its connections from the counts, including
    /// those from `networks`. No connection is handed over to it from now on.
    pub(crate) fn close(&self, shard: u16, capacity: u32, networks: impl Iterator<Item = Network>) {
        let places = &self.free_places[usize::from(shard)].0;
        let left = places.swap(CLOSED, Ordering::AcqRel);
        if left != CLOSED {
            let count = capacity.saturating_sub(left);
            self.connections.fetch_sub(count, Ordering::Relaxed);
        }
        networks.for_each(|network| self.remove_network(network));
    }

    /// Admits a connection from `address` that `shard` has accepted: reserves a place in that shard, or in the
    /// one with the most free places.
    pub(crate) fn admit(&self, address: IpAddr, shard: u16) -> Result<Admitted, Refusal> {
        // Relaxed, because the number guards no other memory.
        let places = |count| (count < self.connections_max).then_some(count + 1);
        self.connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, places)
            .map_err(|_| Refusal::Full)?;
        let Some(shard) = self.reserve_place(shard) else {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::Full);
        };
        let mut admitted = Admitted {
            shard,
            network: None,
        };
        if let Some(limit) = self.per_network_max {
            let network = Network::of(address);
            let mut networks = lock(&self.networks);
            let count = networks.entry(network).or_default();
            if *count >= limit {
                drop(networks);
                self.remove(admitted);
                return Err(Refusal::Network);
            }
            *count += 1;
            admitted.network = Some(network);
        }
        Ok(admitted)
    }

    fn reserve_place(&self, shard: u16) -> Option<u16> {
        let take = |shard: usize| {
            let less = |places: u32| places.checked_sub(1).filter(|_| places != CLOSED);
            let places = &self.free_places[shard].0;
            places
                .fetch_update(Ordering::Acquire, Ordering::Relaxed, less)
                .is_ok()
        };
        if take(shard.into()) {
            return Some(shard);
        }
        loop {
            let places = |places: &FreePlaces| match places.0.load(Ordering::Relaxed) {
                CLOSED => 0,
                places => places,
            };
            let free_places = self.free_places.iter().map(places);
            let (places, freest) = free_places.zip(0..).max()?;
            if places == 0 {
                return None;
            }
            // If another thread was faster, it has admitted a connection, so the loop ends.
            if take(freest.into()) {
                return Some(freest);
            }
        }
    }

    /// Removes an admitted connection from the counts.
    pub(crate) fn remove(&self, admitted: Admitted) {
        let places = &self.free_places[usize::from(admitted.shard)].0;
        let more = |places| (places != CLOSED).then(|| places + 1);
        let freed = places.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if freed.is_ok() {
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(network) = admitted.network {
            self.remove_network(network);
        }
    }

    fn remove_network(&self, network: Network) {
        let mut networks = lock(&self.networks);
        if let Some(count) = networks.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                networks.remove(&network);
            }
        }
    }

    /// Returns a ticket for a connection that is handed over.
    pub(crate) fn begin_handoff(&self, peer: SocketAddr, network: Option<Network>) -> u32 {
        lock(&self.handoffs).insert((peer, network)) as u32
    }

    /// Takes back the ticket of a connection that has arrived, or whose handoff has failed.
    pub(crate) fn receive_handoff(&self, ticket: u32) -> (SocketAddr, Option<Network>) {
        lock(&self.handoffs).remove(ticket as usize)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Refusal {
    /// The response to a refused client.
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

    /// An admission for two shards with `each` places.
    fn admission(max: Option<u32>, per_address: Option<u32>, each: u32) -> Admission {
        let config = Config {
            shards: Some(2),
            max_connections: max,
            max_connections_per_address: per_address,
            ..Config::default()
        };
        let admission = Admission::new(&config);
        admission.open(0, each);
        admission.open(1, each);
        admission
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_connection_that_ends_frees_its_place() {
        let admission = admission(Some(2), None, 9);
        let one = admission.admit(LOCALHOST, 0).unwrap();
        assert!(admission.admit(LOCALHOST, 1).is_ok());
        assert_eq!(admission.admit(LOCALHOST, 1), Err(Refusal::Full));
        admission.remove(one);
        assert!(admission.admit(LOCALHOST, 1).is_ok());
    }

    #[test]
    fn a_connection_to_a_full_shard_is_admitted_to_the_other() {
        let admission = admission(None, None, 2);
        let shards = [0, 0, 0, 0].map(|at| admission.admit(LOCALHOST, at).unwrap().shard);
        assert_eq!(shards, [0, 0, 1, 1]);
        assert_eq!(admission.admit(LOCALHOST, 0), Err(Refusal::Full));
        let (shard, network) = (0, None);
        admission.remove(Admitted { shard, network });
        assert_eq!(admission.admit(LOCALHOST, 1).unwrap().shard, 0);
        assert_eq!(admission.connections.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn connections_are_counted_by_network_until_they_end() {
        let admission = admission(Some(3), Some(1), 2);
        let one = admission.admit(address("192.0.2.1"), 0).unwrap();
        assert_eq!(
            admission.admit(address("::ffff:192.0.2.1"), 0),
            Err(Refusal::Network)
        );
        let two = admission.admit(address("192.0.2.2"), 0).unwrap();
        assert_eq!(two.shard, 0, "a refused connection takes no place");
        assert!(two.network.is_some());
        let six = admission.admit(address("2001:db8:1:2::1"), 1).unwrap();
        assert_eq!(
            admission.admit(address("2001:db8:1:3::1"), 1),
            Err(Refusal::Full),
            "a refused connection does not count"
        );
        admission.remove(six);
        admission.remove(one);
        assert!(admission.admit(address("2001:db8:1:2::ffff"), 1).is_ok());
        assert_eq!(
            admission.admit(address("2001:db8:1:2::2"), 1),
            Err(Refusal::Network)
        );
        assert_eq!(admission.networks.lock().unwrap().len(), 2);
    }

    #[test]
    fn a_connection_that_is_handed_over_keeps_its_address_and_its_network() {
        let admission = admission(None, Some(1), 1);
        let peers = ["[::1]:1", "192.0.2.1:2"].map(|peer| peer.parse::<SocketAddr>().unwrap());
        let network = admission.admit(peers[0].ip(), 0).unwrap().network;
        assert!(network.is_some());
        let tickets = [(peers[0], network), (peers[1], None)]
            .map(|(peer, network)| admission.begin_handoff(peer, network));
        assert_eq!(admission.receive_handoff(tickets[1]), (peers[1], None));
        assert_eq!(admission.receive_handoff(tickets[0]), (peers[0], network));
        assert!(admission.handoffs.lock().unwrap().is_empty());
    }

    #[test]
    fn loopback_addresses_are_networks() {
        let networks = [
            IpAddr::from(Ipv6Addr::LOCALHOST),
            IpAddr::from(Ipv4Addr::LOCALHOST),
        ];
        assert_ne!(Network::of(networks[0]), Network::of(networks[1]));
    }
}
