//! Requests on which the application has not decided.

use tidewheel::ring::sim::Simulation;

use super::{
    bench::{Bench, SECOND, config, each_seed},
    close_storm::assert_nothing_left,
    echo::NEVER_DECIDED,
};

/// A request, and a masked frame behind it.
fn request_and_frame() -> Vec<u8> {
    let request = format!(
        "GET {NEVER_DECIDED} HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    [request.as_bytes(), &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']].concat()
}

#[test]
fn an_undecided_client_that_has_sent_fin_is_released_with_its_answer_at_the_handshake_timeout() {
    each_seed(100, |seed| {
        let simulation = Simulation {
            seed,
            ..Simulation::default()
        };
        let mut bench = Bench::new(simulation, &config());
        let clients: Vec<_> = (0..10)
            .map(|_| {
                let client = bench.network.connect();
                bench.network.send(client, &request_and_frame());
                bench.network.finish(client);
                client
            })
            .collect();
        // The handshake timeout is a second, and so is the close timeout.
        bench.run_for(SECOND + SECOND / 5);
        for client in clients {
            while bench.network.read(client).is_some() {}
        }
        bench.run_for(SECOND / 2);
        assert_eq!(bench.shard.connections(), 0, "seed {seed}");
        assert_nothing_left(&mut bench);
    });
}
