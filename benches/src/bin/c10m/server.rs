//! A server: all its shards, their rings, and the virtual clock.

use std::time::Duration;

use tidewheel::{
    Config, Publisher, Time,
    ring::{
        Ring, Wait,
        sim::{ClientCounts, ClientMessage, Population, PopulationRing},
    },
    shard::{Capacity, Holdings, Next, Parts, Shard},
};
use tidewheel_codec::Endpoint;

use crate::{
    Options,
    application::{Application, Ends},
    counting_ring::CountingRing,
    memory_accounts::{Owner, on_behalf_of, server_bytes},
    turn_times::{TurnTimes, cpu_time},
};

/// Assumed `RLIMIT_NOFILE`: the largest table of a ring.
const DESCRIPTORS: u32 = 1 << 20;

/// Rounds without progress of a connection: a few for each wake-up of a shard.
const IDLE_ROUNDS_MAX: usize = 1 << 16;

/// A server with its simulated network.
pub(crate) struct Server {
    members: Vec<Member>,
    /// Connections for which memory is reserved.
    places: usize,
    /// Reserved memory of each connection, in bytes.
    pub(crate) slot_bytes: usize,
    pub(crate) publisher: Publisher,
    /// Virtual time.
    pub(crate) now: Time,
    pub(crate) turn_times: TurnTimes,
    pub(crate) config: Config,
}

/// A shard, and the next step of its driver.
struct Member {
    shard: Shard<CountingRing<PopulationRing>, Application>,
    next: Next,
}

impl Server {
    /// Starts a server with room for all connections.
    pub(crate) fn new(options: &Options, published: &str) -> Self {
        let mut config = Config::default();
        config.shards = Some(options.shards);
        config.max_connections = Some(options.connections);
        let now = Time::from_millis(1000);
        let parts = on_behalf_of(Owner::Server, || Parts::of_server(&config, DESCRIPTORS));
        let places = parts.iter().map(|parts| parts.capacity.places as usize);
        let mut server = Self {
            members: Vec::new(),
            places: places.sum(),
            slot_bytes: slot_bytes(options, &config),
            publisher: parts[0].publisher(),
            now,
            turn_times: TurnTimes::default(),
            config,
        };
        for parts in parts {
            let shard = make_shard(parts, options, &server.config, published, now);
            let next = Next::Enter(Wait::No);
            server.members.push(Member { shard, next });
        }
        server.settle();
        server
    }

    /// Runs one turn of every shard, then enters every ring. Returns whether a shard has more to do at this time.
    fn round(&mut self) -> bool {
        for Member { shard, next } in &mut self.members {
            if *next == Next::Finished {
                continue;
            }
            let ring = shard.ring();
            ring.ring().set_now(self.now);
            let (calls, completions) = (ring.calls(), ring.completions());
            let began = cpu_time();
            *next = on_behalf_of(Owner::Server, || shard.turn(self.now));
            let time = cpu_time() - began;
            let ring = shard.ring();
            let (calls, completions) = (ring.calls() - calls, ring.completions() - completions);
            self.turn_times.add(time, calls, completions);
        }
        let mut is_behind = false;
        for Member { shard, next } in &mut self.members {
            if let Next::Enter(wait) = *next {
                shard.enter(wait).expect("a simulated ring never fails");
                is_behind |= wait == Wait::No || shard.ring().ring().is_ready();
            }
        }
        // A shard that entered later may have woken a shard that entered before it.
        is_behind || self.is_woken()
    }

    fn is_woken(&mut self) -> bool {
        let mut serving = self
            .members
            .iter_mut()
            .filter(|member| member.next != Next::Finished);
        serving.any(|member| member.shard.ring().ring().is_ready())
    }

    /// Runs rounds until no shard has more to do at this time.
    ///
    /// # Panics
    /// If there are more rounds than connections could need.
    pub(crate) fn settle(&mut self) {
        let rounds_max = self.places + IDLE_ROUNDS_MAX;
        let is_settled = (0..rounds_max).any(|_| !self.round());
        assert!(is_settled, "more than {rounds_max} rounds at the same time");
    }

    /// Returns the next deadline, if there is one.
    fn next_wake(&self) -> Option<Time> {
        let wakes = self.members.iter().filter_map(|member| match member.next {
            Next::Enter(Wait::For(limit)) => Some(self.now + limit),
            Next::Enter(Wait::No) => Some(self.now),
            Next::Enter(Wait::Forever) | Next::Finished => None,
        });
        wakes.min()
    }

    /// Advances the virtual clock to `time`.
    pub(crate) fn run_until(&mut self, time: Time) {
        self.settle();
        while let Some(wake) = self.next_wake().filter(|wake| *wake < time) {
            self.now = wake;
            self.settle();
        }
        self.now = time;
        self.settle();
    }

    /// Advances the virtual clock until no deadline is left.
    ///
    /// # Panics
    /// If a deadline is later than `limit` from now.
    pub(crate) fn run_until_idle(&mut self, limit: Duration) {
        let end = self.now + limit;
        self.settle();
        while let Some(wake) = self.next_wake() {
            assert!(wake <= end, "a deadline is later than {limit:?}");
            self.now = wake;
            self.settle();
        }
    }

    /// Connects the clients with the numbers `from..to`, which the shards take in turn.
    pub(crate) fn connect(&mut self, from: u32, to: u32) {
        let shards = self.members.len() as u32;
        for (at, member) in (0..).zip(&mut self.members) {
            // Clients of this shard with a number below `n`.
            let share = |n: u32| (n + shards - 1 - at) / shards;
            member.shard.ring().ring().connect(share(to) - share(from));
        }
    }

    /// Sends a message or a Close from every client.
    pub(crate) fn send_from_all(&mut self, message: ClientMessage) {
        for member in &mut self.members {
            member.shard.ring().ring().send_from_all(message);
        }
    }

    /// Sends a message or a Close from one client.
    pub(crate) fn send_from_one(&mut self, message: ClientMessage) {
        let mut rings = self
            .members
            .iter_mut()
            .map(|member| member.shard.ring().ring());
        assert!(
            rings.any(|mut ring| ring.send_from_one(message)),
            "a connection is open"
        );
    }

    /// Cuts the network of all clients.
    pub(crate) fn vanish(&mut self) {
        for member in &mut self.members {
            member.shard.ring().ring().vanish();
        }
    }

    /// Returns the events of all clients.
    pub(crate) fn tally(&mut self) -> ClientCounts {
        let mut sum = ClientCounts::default();
        for member in &mut self.members {
            sum.add(member.shard.ring().ring().counts());
        }
        sum
    }

    /// Returns the ends of connections that the application has seen.
    pub(crate) fn ends(&mut self) -> Ends {
        let mut sum = Ends::default();
        for member in &mut self.members {
            let Ends {
                by_peer,
                silent,
                drained,
            } = member.shard.handler().ends;
            sum.by_peer += by_peer;
            sum.silent += silent;
            sum.drained += drained;
        }
        sum
    }

    /// Returns the sums of what the shards hold.
    pub(crate) fn holdings(&self) -> Holdings {
        let mut sum = Holdings::default();
        for member in &self.members {
            let one = member.shard.holdings();
            sum.connections += one.connections;
            sum.wheel_entries += one.wheel_entries;
            sum.wheel_bytes += one.wheel_bytes;
            sum.subscriptions += one.subscriptions;
            sum.queued_bytes += one.queued_bytes;
        }
        sum
    }

    /// Returns the number of open descriptors, and of receive buffers that the kernel does not have.
    pub(crate) fn in_use(&mut self) -> (usize, usize) {
        let count = usize::from(self.config.receive_buffers);
        self.members.iter_mut().fold((0, 0), |(open, out), member| {
            let ring = member.shard.ring().ring();
            (
                open + ring.open_sockets(),
                out + count - ring.buffers_free(),
            )
        })
    }

    /// Returns the bytes of all receive buffers, which are mapped and not allocated.
    pub(crate) fn buffer_bytes(&self) -> usize {
        let each =
            usize::from(self.config.receive_buffers) * self.config.receive_buffer_size as usize;
        each * self.members.len()
    }

    /// Returns the bytes that are reserved and were never used, if `connections_max` connections have been open at the
    /// same time: a slab uses its lowest free place first.
    pub(crate) fn untouched_bytes(&self, connections_max: u32) -> usize {
        (self.places - connections_max as usize) * self.slot_bytes
    }

    /// Returns whether all shards have ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.members
            .iter()
            .all(|member| member.next == Next::Finished)
    }
}

fn make_shard(
    parts: Parts,
    options: &Options,
    config: &Config,
    published: &str,
    now: Time,
) -> Shard<CountingRing<PopulationRing>, Application> {
    let ring = PopulationRing::new(Population {
        seed: options.seed + u64::from(parts.index),
        sockets: parts.capacity.places,
        buffers: config.receive_buffers,
        buffer_size: config.receive_buffer_size,
        message_size: usize::from(options.message_size),
        published: published.to_owned(),
    });
    let ring = CountingRing::new(ring.expect("receive buffers can be allocated"));
    let application = Application {
        published: published.to_owned(),
        ends: Ends::default(),
    };
    let shard = on_behalf_of(Owner::Server, || {
        let endpoint = Endpoint::new(config.protocol());
        let endpoint = endpoint.expect("the defaults are valid");
        Shard::new(ring, application, config, endpoint, parts, now)
    });
    shard.expect("the configuration is valid")
}

/// Returns the bytes that a shard reserves for each connection: the difference between shards of two sizes.
fn slot_bytes(options: &Options, config: &Config) -> usize {
    const MORE: u32 = 1000;
    let allocated = |places| {
        let before = server_bytes();
        let capacity = Capacity {
            places,
            connections: places,
        };
        let parts = on_behalf_of(Owner::Server, || Parts::alone(capacity, config));
        let now = Time::from_millis(0);
        let shard = make_shard(parts, options, config, "", now);
        let allocated = server_bytes() - before;
        on_behalf_of(Owner::Server, || drop(shard));
        allocated
    };
    (allocated(1 + MORE) - allocated(1)) / MORE as usize
}
