//! All shards of a server, their rings, and the one clock that they are on.

use std::time::Duration;

use tidewheel::{
    Config, Remote, Time,
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
    ledger::{Owner, on_behalf_of, server_bytes},
    meter::{Meter, processor_time},
    watched::Watched,
};

/// What `RLIMIT_NOFILE` is taken to be: the most that a ring's table can have.
const DESCRIPTORS: u32 = 1 << 20;

/// Rounds in which nobody gets further: a few for each that a shard is woken.
const ROUNDS_SPARE: usize = 1 << 16;

/// The server, and the network that it is on.
pub(crate) struct World {
    members: Vec<Member>,
    /// For how many connections memory is reserved.
    places: usize,
    /// What a place takes of it.
    pub(crate) slot_bytes: usize,
    pub(crate) remote: Remote,
    pub(crate) now: Time,
    pub(crate) meter: Meter,
    pub(crate) config: Config,
}

struct Member {
    shard: Shard<Watched<PopulationRing>, Application>,
    next: Next,
}

impl World {
    /// A server with room for all connections, which it begins to accept.
    pub(crate) fn new(options: &Options, published: &str) -> Self {
        let config = Config {
            shards: Some(options.shards),
            max_connections: Some(options.connections),
            ..Config::default()
        };
        let now = Time::from_millis(1000);
        let parts = on_behalf_of(Owner::Server, || Parts::of_server(&config, DESCRIPTORS));
        let places = parts.iter().map(|parts| parts.capacity.places as usize);
        let mut world = Self {
            members: Vec::new(),
            places: places.sum(),
            slot_bytes: slot_bytes(options, &config),
            remote: parts[0].remote(),
            now,
            meter: Meter::default(),
            config,
        };
        for parts in parts {
            let shard = make_shard(parts, options, &world.config, published, now);
            let next = Next::Enter(Wait::No);
            world.members.push(Member { shard, next });
        }
        world.settle();
        world
    }

    /// Lets every shard take a turn, and then the kernel; says whether there is more to do now.
    fn round(&mut self) -> bool {
        for Member { shard, next } in &mut self.members {
            if *next == Next::Finished {
                continue;
            }
            let ring = shard.ring();
            ring.ring().set_now(self.now);
            let (calls, reaped) = (ring.calls(), ring.reaped());
            let began = processor_time();
            *next = on_behalf_of(Owner::Server, || shard.turn(self.now));
            let time = processor_time() - began;
            let ring = shard.ring();
            self.meter
                .add(time, ring.calls() - calls, ring.reaped() - reaped);
        }
        let mut is_behind = false;
        for Member { shard, next } in &mut self.members {
            if let Next::Enter(wait) = *next {
                shard.enter(wait).expect("a simulation never fails");
                is_behind |= wait == Wait::No || shard.ring().ring().is_ready();
            }
        }
        // A shard may have been woken by one that entered after it.
        is_behind || self.is_woken()
    }

    fn is_woken(&mut self) -> bool {
        let mut serving = self
            .members
            .iter_mut()
            .filter(|member| member.next != Next::Finished);
        serving.any(|member| member.shard.ring().ring().is_ready())
    }

    /// Does all that there is to do now.
    ///
    /// # Panics
    /// If it never ends: in each round somebody gets further.
    pub(crate) fn settle(&mut self) {
        let rounds_max = self.places + ROUNDS_SPARE;
        let is_settled = (0..rounds_max).any(|_| !self.round());
        assert!(is_settled, "more than {rounds_max} rounds at one moment");
    }

    /// When the next deadline is due; `None` when nothing is.
    fn next_wake(&self) -> Option<Time> {
        let wakes = self.members.iter().filter_map(|member| match member.next {
            Next::Enter(Wait::For(limit)) => Some(self.now + limit),
            Next::Enter(Wait::No) => Some(self.now),
            Next::Enter(Wait::Forever) | Next::Finished => None,
        });
        wakes.min()
    }

    /// Lets time pass until `time`.
    pub(crate) fn run_until(&mut self, time: Time) {
        self.settle();
        while let Some(wake) = self.next_wake().filter(|wake| *wake < time) {
            self.now = wake;
            self.settle();
        }
        self.now = time;
        self.settle();
    }

    /// Lets time pass until nothing is due any more, for `limit` at most.
    pub(crate) fn run_dry(&mut self, limit: Duration) {
        let end = self.now + limit;
        self.settle();
        while let Some(wake) = self.next_wake() {
            assert!(wake <= end, "something is due after {limit:?}");
            self.now = wake;
            self.settle();
        }
    }

    /// So many clients connect to each shard in turn.
    pub(crate) fn connect(&mut self, from: u32, to: u32) {
        let shards = self.members.len() as u32;
        for (at, member) in (0..).zip(&mut self.members) {
            // Of the numbers below `n`, so many are this shard's.
            let share = |n: u32| (n + shards - 1 - at) / shards;
            member.shard.ring().ring().connect(share(to) - share(from));
        }
    }

    /// Every client says a word.
    pub(crate) fn say(&mut self, word: ClientMessage) {
        for member in &mut self.members {
            member.shard.ring().ring().send_from_all(word);
        }
    }

    /// One client says a word.
    pub(crate) fn say_one(&mut self, word: ClientMessage) {
        let mut rings = self
            .members
            .iter_mut()
            .map(|member| member.shard.ring().ring());
        assert!(
            rings.any(|mut ring| ring.send_from_one(word)),
            "somebody is open"
        );
    }

    /// The network of all clients is cut.
    pub(crate) fn vanish(&mut self) {
        for member in &mut self.members {
            member.shard.ring().ring().vanish();
        }
    }

    /// What the clients have seen, all shards together.
    pub(crate) fn tally(&mut self) -> ClientCounts {
        let mut sum = ClientCounts::default();
        for member in &mut self.members {
            sum.add(member.shard.ring().ring().counts());
        }
        sum
    }

    /// How connections have ended, as the application was told.
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

    /// What all shards keep.
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

    /// Descriptors in use, and receive buffers that the kernel does not hold.
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

    /// Bytes of all receive buffers, which are mapped, not allocated.
    pub(crate) fn buffer_bytes(&self) -> usize {
        let each =
            usize::from(self.config.receive_buffers) * self.config.receive_buffer_size as usize;
        each * self.members.len()
    }

    /// Bytes of places that are reserved and were never touched, when so many connections at most
    /// have been open at a time: a slab fills the lowest place first.
    pub(crate) fn untouched_bytes(&self, connections_max: u32) -> usize {
        (self.places - connections_max as usize) * self.slot_bytes
    }

    /// Whether all shards have ended.
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
) -> Shard<Watched<PopulationRing>, Application> {
    let ring = PopulationRing::new(Population {
        seed: options.seed + u64::from(parts.index),
        sockets: parts.capacity.places,
        buffers: config.receive_buffers,
        buffer_size: config.receive_buffer_size,
        message_size: usize::from(options.message_size),
        published: published.to_owned(),
    });
    let ring = Watched::new(ring.expect("there is memory for receive buffers"));
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

/// How much memory a shard reserves for each place, by what it allocates for more of them.
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
