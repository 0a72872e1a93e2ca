//! The handler is called when a topic gets its first subscriber, and when it loses its last one.

use std::time::Duration;

use tidewheel::{
    Config,
    ring::sim::{Faults, Simulation},
    shard::{Next, Parts},
};

use super::{
    bench::{Bench, SECOND, config},
    echo::{PANIC, SUBSCRIBE},
};

fn simulation() -> Simulation {
    Simulation {
        latency_ms_max: 0,
        faults: Faults::NONE,
        ..Simulation::default()
    }
}

fn with_presence() -> Config {
    let mut config = config();
    config.presence = true;
    config
}

fn subscribe(bench: &mut Bench, client: usize, pattern: &str) {
    bench.send(client, format!("{SUBSCRIBE}{pattern}").as_bytes());
    bench.run_for(SECOND / 50);
}

fn subscribe_to_many(bench: &mut Bench, client: usize, topics: usize) {
    let messages = (0..topics).map(|number| format!("{SUBSCRIBE}{number}"));
    bench.send_together(client, messages);
    bench.run_for(SECOND / 2);
}

fn presence(bench: &Bench) -> Vec<(String, bool)> {
    bench.record.borrow().presence.clone()
}

fn change(topic: &str, is_active: bool) -> (String, bool) {
    (topic.to_owned(), is_active)
}

#[test]
fn subscribers_are_counted_over_all_shards_and_the_first_and_the_last_one_are_reported() {
    let mut config = with_presence();
    config.shards = Some(2);
    let parts = Parts::of_server(&config, simulation().sockets);
    let benches = parts
        .into_iter()
        .map(|parts| Bench::with_parts(simulation(), &config, parts, |ring| ring));
    let [mut one, mut other] = benches
        .collect::<Vec<_>>()
        .try_into()
        .unwrap_or_else(|_| unreachable!("there are two shards"));
    let clients = [one.connect(), one.connect()];
    let far = other.connect();
    one.run_for(SECOND / 50);
    other.run_for(SECOND / 50);
    for client in clients {
        subscribe(&mut one, client, "a/*");
    }
    subscribe(&mut other, far, "a/*");
    let publisher = one.publisher.clone();
    assert_eq!(publisher.subscribers("a/*"), Some(3));
    assert_eq!(publisher.subscribers("a/b"), Some(0));
    for client in clients {
        one.close(client);
    }
    one.run_for(SECOND / 2);
    assert_eq!(publisher.subscribers("a/*"), Some(1));
    assert_eq!(presence(&one), [change("a/*", true)]);
    other.close(far);
    other.run_for(SECOND / 2);
    assert_eq!(publisher.subscribers("a/*"), Some(0));
    assert_eq!(presence(&other), [change("a/*", false)]);
}

#[test]
fn nothing_is_counted_or_reported_without_the_setting() {
    let mut bench = Bench::new(simulation(), &config());
    let client = bench.connect();
    bench.run_for(SECOND / 50);
    subscribe(&mut bench, client, "a");
    assert_eq!(bench.publisher.subscribers("a"), None);
    assert_eq!(presence(&bench), []);
}

#[test]
fn a_connection_that_ends_with_many_topics_is_reported_in_several_turns() {
    const TOPICS: usize = 5000;
    const REPORTS_PER_TURN_MAX: usize = 1024;
    let mut bench = Bench::new(simulation(), &with_presence());
    let client = bench.connect();
    bench.run_for(SECOND / 50);
    subscribe_to_many(&mut bench, client, TOPICS);
    assert_eq!(presence(&bench).len(), TOPICS);
    bench.close(client);
    let until = bench.network.now() + SECOND / 2;
    bench.network.wake_at(until);
    let mut turns = 0;
    while bench.network.now() < until {
        let before = bench.record.borrow().presence.len();
        let Next::Enter(wait) = bench.shard.turn(bench.network.now()) else {
            unreachable!("the shard was not stopped")
        };
        let reports = bench.record.borrow().presence.len() - before;
        assert!(reports <= REPORTS_PER_TURN_MAX, "{reports}");
        turns += usize::from(reports > 0);
        bench.shard.enter(wait).expect("the ring never fails");
    }
    assert_eq!(turns, TOPICS.div_ceil(REPORTS_PER_TURN_MAX));
    let idle = presence(&bench).split_off(TOPICS);
    assert!(idle.len() == TOPICS && idle.iter().all(|(_, is_active)| !is_active));
}

#[test]
fn a_drain_ends_after_the_last_topic_is_reported() {
    let mut bench = Bench::new(simulation(), &with_presence());
    let client = bench.connect();
    bench.run_for(SECOND / 50);
    subscribe_to_many(&mut bench, client, 3000);
    bench.drain();
    bench.run_for(5 * SECOND);
    assert!(bench.finished);
    assert_eq!(presence(&bench).len(), 2 * 3000);
}

#[test]
fn r24_a_panic_in_a_report_of_a_topic_ends_no_connection() {
    let mut bench = Bench::new(simulation(), &with_presence());
    let client = bench.connect();
    bench.run_for(SECOND / 50);
    subscribe(&mut bench, client, PANIC);
    subscribe(&mut bench, client, "a");
    bench.run_for(Duration::from_millis(100));
    assert!(bench.is_open(client));
    bench.close(client);
    bench.run_for(SECOND / 2);
    let expected = [
        change(PANIC, true),
        change("a", true),
        change("a", false),
        change(PANIC, false),
    ];
    assert_eq!(presence(&bench), expected);
}
