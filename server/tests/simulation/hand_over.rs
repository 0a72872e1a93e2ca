//! Connections that a full shard fails to hand over.

use tidewheel::{
    ring::sim::{Faults, Simulation},
    shard::Parts,
};

use super::bench::{Bench, SECOND, config};

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Another shard has room, but its ring belongs to another simulated kernel, so every handover fails.
#[test]
fn a_connection_whose_handover_fails_is_refused_and_not_counted() {
    const SOCKETS: u32 = 16;
    let simulation = Simulation {
        sockets: SOCKETS,
        faults: Faults::NONE,
        ..Simulation::default()
    };
    let mut config = config();
    config.shards = Some(2);
    config.max_connections = Some(16);
    let [parts, others] = Parts::of_server(&config, SOCKETS)
        .try_into()
        .expect("two shards");
    let room = parts.capacity.connections as usize;
    assert_eq!(room, 8);
    let mut other = Bench::with_parts(simulation, &config, others, |ring| ring);
    let mut bench = Bench::with_parts(simulation, &config, parts, |ring| ring);
    let clients: Vec<usize> = (0..room).map(|_| bench.connect()).collect();
    bench.run_for(SECOND / 10);
    for _ in 0..3 * room {
        bench.connect_raw(REQUEST);
        bench.run_for(SECOND / 100);
    }
    // Refused connections occupy the spare descriptors until the close timeout of a second.
    bench.run_for(5 * SECOND);
    assert_eq!(
        bench.shard.connections(),
        room,
        "refused connections have ended"
    );
    assert_eq!(bench.record.borrow().open.len(), room);
    assert!(clients.iter().all(|&client| bench.is_open(client)));
    let other_clients: Vec<usize> = (0..room).map(|_| other.connect()).collect();
    other.run_for(SECOND / 10);
    assert!(other_clients.iter().all(|&client| other.is_open(client)));
}
