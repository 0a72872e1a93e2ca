//! Who may come in: limits that all shards of a server keep together.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use slab::Slab;
use tidewheel_codec::handshake::Rejection;

use crate::Config;

/// After so many seconds a client that was refused may try again (RFC 9110 10.2.3).
const RETRY_AFTER: &str = "5";

/// The room of a shard that has ended.
const CLOSED: u32 = u32::MAX;

/// The ticket of a handoff whose network is not counted.
const NO_NETWORK: u32 = u32::MAX;

/// Counts the connections of a server, and refuses those beyond its limits.
#[derive(Debug)]
pub(crate) struct Admission {
    connections_max: u32,
    per_network_max: Option<u32>,
    connections: AtomicU32,
    /// How many more each shard has room for; [`CLOSED`] for one that has ended.
    rooms: Box<[FreePlaces]>,
    /// Connections of each network that has any; empty where they are not limited.
    networks: Mutex<HashMap<Network, u32>>,
    /// The networks of connections on the way from one shard to another, by ticket.
    handoffs: Mutex<Slab<Network>>,
}

/// Each on a cache line of its own, for its shard writes it with every connection that comes or goes.
#[derive(Debug, Default)]
#[repr(align(64))]
struct FreePlaces(AtomicU32);

/// A connection that may stay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Admitted {
    /// Which shard has room for it.
    pub(crate) shard: u16,
    /// Its network, if that is counted.
    pub(crate) network: Option<Network>,
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
        let shards = 0..config.shards.unwrap_or(1);
        Self {
            connections_max: config.max_connections.unwrap_or(u32::MAX),
            per_network_max: config.max_connections_per_address,
            connections: AtomicU32::new(0),
            rooms: shards.map(|_| FreePlaces::default()).collect(),
            networks: Mutex::default(),
            handoffs: Mutex::default(),
        }
    }

    /// A shard can be reached, and has room for so many.
    pub(crate) fn open(&self, shard: u16, room: u32) {
        // A shard whose room is seen has a waker.
        let opened = &self.rooms[usize::from(shard)].0;
        opened.store(room, Ordering::Release);
    }

    /// A shard with room for `capacity` has ended: none of its connections counts any more, those from
    /// `networks` included, and none is handed over to it.
    pub(crate) fn close(&self, shard: u16, capacity: u32, networks: impl Iterator<Item = Network>) {
        let room = &self.rooms[usize::from(shard)].0;
        let left = room.swap(CLOSED, Ordering::AcqRel);
        if left != CLOSED {
            let count = capacity.saturating_sub(left);
            self.connections.fetch_sub(count, Ordering::Relaxed);
        }
        networks.for_each(|network| self.leave_network(network));
    }

    /// Whether the addresses of those who come matter.
    pub(crate) fn asks_for_address(&self) -> bool {
        self.per_network_max.is_some()
    }

    /// Counts a connection from `address` that `shard` has accepted, if it may come in: to that shard,
    /// or where there is most room.
    pub(crate) fn enter(&self, address: Option<IpAddr>, shard: u16) -> Result<Admitted, Refusal> {
        // Relaxed: the number guards no other memory.
        let room = |count| (count < self.connections_max).then_some(count + 1);
        self.connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .map_err(|_| Refusal::Full)?;
        let Some(shard) = self.take_room(shard) else {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::Full);
        };
        let mut admitted = Admitted {
            shard,
            network: None,
        };
        if let (Some(limit), Some(address)) = (self.per_network_max, address) {
            let network = Network::of(address);
            let mut networks = lock(&self.networks);
            let count = networks.entry(network).or_default();
            if *count >= limit {
                drop(networks);
                self.leave(admitted);
                return Err(Refusal::Network);
            }
            *count += 1;
            admitted.network = Some(network);
        }
        Ok(admitted)
    }

    fn take_room(&self, shard: u16) -> Option<u16> {
        let take = |shard: usize| {
            let less = |room: u32| room.checked_sub(1).filter(|_| room != CLOSED);
            let room = &self.rooms[shard].0;
            room.fetch_update(Ordering::Acquire, Ordering::Relaxed, less)
                .is_ok()
        };
        if take(shard.into()) {
            return Some(shard);
        }
        loop {
            let room = |room: &FreePlaces| match room.0.load(Ordering::Relaxed) {
                CLOSED => 0,
                room => room,
            };
            let rooms = self.rooms.iter().map(room);
            let (room, roomiest) = rooms.zip(0..).max()?;
            if room == 0 {
                return None;
            }
            // If others have been faster, one of them has come in.
            if take(roomiest.into()) {
                return Some(roomiest);
            }
        }
    }

    /// A connection that had entered is gone.
    pub(crate) fn leave(&self, admitted: Admitted) {
        let room = &self.rooms[usize::from(admitted.shard)].0;
        let more = |room| (room != CLOSED).then(|| room + 1);
        let freed = room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if freed.is_ok() {
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(network) = admitted.network {
            self.leave_network(network);
        }
    }

    fn leave_network(&self, network: Network) {
        let mut networks = lock(&self.networks);
        if let Some(count) = networks.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                networks.remove(&network);
            }
        }
    }

    /// Returns a ticket for a connection that goes to another shard.
    pub(crate) fn begin_handoff(&self, network: Option<Network>) -> u32 {
        match network {
            Some(network) => lock(&self.handoffs).insert(network) as u32,
            None => NO_NETWORK,
        }
    }

    /// Takes back the ticket of a connection that has arrived, or whose handoff has failed.
    pub(crate) fn receive_handoff(&self, ticket: u32) -> Option<Network> {
        match ticket {
            NO_NETWORK => None,
            _ => Some(lock(&self.handoffs).remove(ticket as usize)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Of two shards, with room for `each`.
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

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn who_leaves_makes_room() {
        let admission = admission(Some(2), None, 9);
        let one = admission.enter(None, 0).unwrap();
        assert!(admission.enter(None, 1).is_ok());
        assert_eq!(admission.enter(None, 1), Err(Refusal::Full));
        admission.leave(one);
        assert!(admission.enter(None, 1).is_ok());
    }

    #[test]
    fn who_comes_to_a_full_shard_goes_where_there_is_room() {
        let admission = admission(None, None, 2);
        let shards = [0, 0, 0, 0].map(|at| admission.enter(None, at).unwrap().shard);
        assert_eq!(shards, [0, 0, 1, 1]);
        assert_eq!(admission.enter(None, 0), Err(Refusal::Full));
        let (shard, network) = (0, None);
        admission.leave(Admitted { shard, network });
        assert_eq!(admission.enter(None, 1).unwrap().shard, 0);
        assert_eq!(admission.connections.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn networks_are_counted_apart_and_forgotten() {
        let admission = admission(Some(3), Some(1), 2);
        let one = admission.enter(address("192.0.2.1"), 0).unwrap();
        assert_eq!(
            admission.enter(address("::ffff:192.0.2.1"), 0),
            Err(Refusal::Network)
        );
        let two = admission.enter(address("192.0.2.2"), 0).unwrap();
        assert_eq!(two.shard, 0, "who was refused takes no room");
        assert!(two.network.is_some());
        let six = admission.enter(address("2001:db8:1:2::1"), 1).unwrap();
        assert_eq!(
            admission.enter(address("2001:db8:1:3::1"), 1),
            Err(Refusal::Full),
            "who was refused is not counted"
        );
        admission.leave(six);
        admission.leave(one);
        assert!(admission.enter(address("2001:db8:1:2::ffff"), 1).is_ok());
        assert_eq!(
            admission.enter(address("2001:db8:1:2::2"), 1),
            Err(Refusal::Network)
        );
        assert_eq!(admission.networks.lock().unwrap().len(), 2);
    }

    #[test]
    fn a_traveller_keeps_its_network() {
        let admission = admission(None, Some(1), 1);
        let network = admission.enter(address("::1"), 0).unwrap().network;
        let ticket = admission.begin_handoff(network);
        assert_eq!(admission.receive_handoff(ticket), network);
        assert_eq!(
            admission.receive_handoff(admission.begin_handoff(None)),
            None
        );
        assert!(admission.handoffs.lock().unwrap().is_empty());
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
