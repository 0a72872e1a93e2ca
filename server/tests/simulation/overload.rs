//! Overload: publishers wait, no connection is closed, and messages arrive in order.

use std::time::Duration;

use tidewheel::{
    Cause, Config, RemoteError,
    ring::sim::{Faults, Simulation},
};

use super::{
    bench::{Bench, SECOND, config, each_seed},
    echo::{PUBLISH, SUBSCRIBE},
};

const SUBSCRIBERS: usize = 20;
const PUBLISHERS: usize = 3;
const MESSAGES: usize = 200;
const SIZE: usize = 8 << 10;
const FANOUT_MEMORY: usize = 1 << 20;

/// Opens connections; the first `SUBSCRIBERS` subscribe to `all`.
fn open(simulation: Simulation, config: &Config) -> Bench {
    let mut bench = Bench::new(simulation, config);
    for _ in 0..SUBSCRIBERS + PUBLISHERS {
        bench.connect();
    }
    bench.run_for(SECOND);
    for at in 0..SUBSCRIBERS {
        bench.send(at, format!("{SUBSCRIBE}all").as_bytes());
    }
    bench.run_for(SECOND);
    bench
}

/// Clients publish about ten times as much as the kernel takes in the same time.
#[test]
fn r25_memory_is_bounded_while_publishers_wait() {
    each_seed(4, |seed| {
        let simulation = Simulation {
            seed,
            // A message to all subscribers takes 20 ms.
            operation_ms: 1,
            buffers: 64,
            send_buffer: 16 << 10,
            faults: Faults {
                short_send: 0.01,
                ..Faults::default()
            },
            ..Simulation::default()
        };
        let mut config = config();
        config.fanout_memory = FANOUT_MEMORY;
        config.ping_interval = None;
        config.max_send_queue = 64 << 10;
        let mut bench = open(simulation, &config);
        let mut held = Vec::new();
        for number in 0..MESSAGES {
            for publisher in 0..PUBLISHERS {
                let mut message = format!("{PUBLISH}all {publisher} {number} ").into_bytes();
                message.resize(SIZE, b'.');
                bench.send(SUBSCRIBERS + publisher, &message);
            }
            if number % 10 == 0 {
                bench.run_for(Duration::from_millis(1));
                held.push(bench.shard.holdings().fanout_bytes);
            }
        }
        // The shard continues while the clients send nothing.
        for _ in 0..MESSAGES {
            bench.run_for(Duration::from_millis(20));
            held.push(bench.shard.holdings().fanout_bytes);
        }
        let is_busy = |held: &&usize| **held > SIZE;
        assert!(
            held.iter().filter(is_busy).count() > 10,
            "seed {seed}: {held:?}"
        );
        let held_max = held.iter().max().expect("there are samples");
        assert!(*held_max < FANOUT_MEMORY, "seed {seed}: {held:?}");
        bench.run_for(60 * SECOND);
        assert_eq!(bench.shard.holdings().fanout_bytes, 0, "seed {seed}");
        for at in 0..SUBSCRIBERS {
            assert!(
                bench.is_open(at),
                "seed {seed}: a subscriber that reads is not closed"
            );
            let mut next = [0; PUBLISHERS];
            for message in &bench.clients[at].echoes {
                let text = std::str::from_utf8(message).expect("text");
                let mut words = text.split(' ').map(|word| word.parse::<usize>());
                let (publisher, number) = (words.next(), words.next());
                let publisher = publisher.expect("a publisher").expect("a number");
                assert_eq!(number, Some(Ok(next[publisher])), "seed {seed}");
                next[publisher] += 1;
            }
            assert_eq!(next, [MESSAGES; PUBLISHERS], "seed {seed}, subscriber {at}");
        }
    });
}

/// While there is no room, the server does not read from publishers, so it does not get their pongs.
#[test]
fn r21_paused_publishers_are_not_closed_for_a_ping_timeout() {
    each_seed(4, |seed| {
        let simulation = Simulation {
            seed,
            operation_ms: 1,
            buffers: 64,
            send_buffer: 16 << 10,
            ..Simulation::default()
        };
        let mut config = config();
        config.fanout_memory = FANOUT_MEMORY;
        config.ping_interval = Some(SECOND / 4);
        config.ping_timeout = Some(SECOND / 4);
        config.max_send_queue = 64 << 10;
        let mut bench = open(simulation, &config);
        let mut message = format!("{PUBLISH}all ").into_bytes();
        message.resize(SIZE, b'.');
        for publisher in SUBSCRIBERS..SUBSCRIBERS + PUBLISHERS {
            for _ in 0..MESSAGES {
                bench.send(publisher, &message);
            }
            bench.clients[publisher].is_silent = true;
        }
        bench.run_for(60 * SECOND);
        for client in &bench.clients[..SUBSCRIBERS] {
            let received = client.echoes.len();
            assert_eq!(received, PUBLISHERS * MESSAGES, "seed {seed}");
        }
        // After all of their messages were read, silent publishers time out.
        let record = bench.record.borrow();
        let causes: Vec<Cause> = record.ends.iter().map(|(.., end)| end.cause).collect();
        assert_eq!(causes, [Cause::PingTimeout; PUBLISHERS], "seed {seed}");
    });
}

/// Another thread publishes without a pause. It gets `Busy` over the budget, and accepted messages arrive.
#[test]
fn r25_other_threads_get_busy_over_the_budget_and_no_accepted_message_is_lost() {
    each_seed(4, |seed| {
        let simulation = Simulation {
            seed,
            operation_ms: 1,
            send_buffer: 1 << 20,
            ..Simulation::default()
        };
        let mut config = config();
        config.fanout_memory = FANOUT_MEMORY;
        config.ping_interval = None;
        let mut bench = Bench::new(simulation, &config);
        for at in 0..SUBSCRIBERS {
            bench.connect();
            bench.run_for(SECOND / 10);
            bench.send(at, format!("{SUBSCRIBE}all").as_bytes());
        }
        bench.run_for(SECOND);
        let (mut accepted, mut busy, mut bytes_max) = (Vec::new(), 0, 0);
        for number in 0..1000_usize {
            let mut message = number.to_string().into_bytes();
            message.resize(SIZE, b' ');
            match bench.publisher.publish("all", message.as_slice()) {
                Ok(()) => accepted.push(number),
                Err(RemoteError::Busy) => busy += 1,
                Err(error) => panic!("{error}"),
            }
            if number % 10 == 9 {
                bench.run_for(Duration::from_millis(1));
            }
            bytes_max = bytes_max.max(bench.shard.holdings().fanout_bytes);
        }
        assert!(
            busy > 100 && accepted.len() > 100,
            "{busy} busy, {} accepted",
            accepted.len()
        );
        // A burst is accepted before the shard has seen it.
        let bound = FANOUT_MEMORY / 2 + 10 * SIZE;
        assert!(bytes_max < bound, "seed {seed}: {bytes_max}");
        bench.run_for(60 * SECOND);
        assert_eq!(bench.shard.holdings().fanout_bytes, 0, "seed {seed}");
        for client in &bench.clients {
            let numbers = client.echoes.iter().map(|message| {
                let text = std::str::from_utf8(message).expect("text");
                text.trim_end().parse::<usize>().expect("a number")
            });
            assert!(numbers.eq(accepted.iter().copied()), "seed {seed}");
        }
        assert_eq!(bench.publisher.publish("all", "again"), Ok(()));
    });
}

/// Clients send far more frames in one segment than a turn reads.
#[test]
fn a_flood_of_small_messages_is_answered_in_order_over_many_turns() {
    each_seed(10, |seed| {
        const EACH: u32 = 30_000;
        let simulation = Simulation {
            seed,
            buffers: 64,
            buffer_size: 16 << 10,
            send_buffer: 1 << 20,
            ..Simulation::default()
        };
        let mut config = config();
        config.ping_interval = None;
        let mut bench = Bench::new(simulation, &config);
        let clients = [bench.connect(), bench.connect(), bench.connect()];
        bench.run_for(SECOND / 2);
        for client in clients {
            bench.send_together(client, (0..EACH).map(u32::to_be_bytes));
        }
        bench.run_for(30 * SECOND);
        let per_turn = bench.messages_per_turn;
        // The limit of a turn, of one connection beyond it, and the minimum for each buffer.
        let bound = (16 << 10) + (1 << 10) + 64 * 64;
        assert!(per_turn <= bound, "seed {seed}: {per_turn} in a turn");
        assert!(
            per_turn > bound / 4,
            "seed {seed}: {per_turn} in a turn is not a flood"
        );
        for client in clients {
            let numbers = bench.clients[client].echoes.iter();
            let numbers = numbers.map(|echo| u32::from_be_bytes(echo[..].try_into().unwrap()));
            assert!(numbers.eq(0..EACH), "seed {seed}");
            bench.close(client);
        }
        bench.run_for(SECOND);
        assert_eq!(bench.shard.connections(), 0, "seed {seed}");
        let record = bench.record.borrow();
        let causes = record.ends.iter().map(|(.., end)| end.cause);
        assert!(causes.eq([Cause::PeerClose; 3]), "seed {seed}");
    });
}
