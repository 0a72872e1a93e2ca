//! Connections that a full shard cannot hand over.

use tidewheel::{
    Config,
    ring::sim::{Faults, Simulation},
    shard::Parts,
};

use super::bench::{Bench, SECOND, config};

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// There is another shard that has room; but its kernel is another one, so that nothing gets there.
#[test]
fn who_cannot_be_handed_over_is_refused_and_not_counted() {
    const PLACES: u32 = 16;
    let simulation = Simulation {
        sockets: PLACES,
        faults: Faults::NONE,
        ..Simulation::default()
    };
    let config = Config {
        shards: Some(2),
        max_connections: Some(16),
        ..config()
    };
    let [parts, others] = Parts::of_server(&config, PLACES)
        .try_into()
        .expect("two shards");
    let room = parts.capacity.connections as usize;
    assert_eq!(room, 8);
    let mut other = Bench::with_parts(simulation, &config, others, |ring| ring);
    let mut bench = Bench::with_parts(simulation, &config, parts, |ring| ring);
    let clients: Vec<usize> = (0..room).map(|_| bench.connect()).collect();
    bench.run_for(SECOND / 10);
    for _ in 0..3 * room {
        bench.connect_rudely(REQUEST);
        bench.run_for(SECOND / 100);
    }
    // They stay until the close timeout, which is a second, as many at a time as there are places for.
    bench.run_for(5 * SECOND);
    assert_eq!(bench.shard.connections(), room, "who was refused is gone");
    assert_eq!(bench.record.borrow().open.len(), room);
    assert!(clients.iter().all(|&client| bench.is_open(client)));
    let theirs: Vec<usize> = (0..room).map(|_| other.connect()).collect();
    other.run_for(SECOND / 10);
    assert!(theirs.iter().all(|&client| other.is_open(client)));
}
