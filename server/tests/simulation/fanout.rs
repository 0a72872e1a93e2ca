//! Published messages reach all subscribers in order, and slow subscribers do not delay the others.

use std::{collections::HashMap, time::Duration};

use tidewheel::{
    Config, SlowConsumer, TopicRule,
    ring::sim::{Faults, Simulation},
};

use super::{
    bench::{Bench, SECOND, config, each_seed},
    echo::{PUBLISH, SUBSCRIBE},
};

const SUBSCRIBERS: usize = 40;
const PUBLISHERS: usize = 3;
const MESSAGES: usize = 60;

fn simulation(seed: u64) -> Simulation {
    Simulation {
        seed,
        sockets: 64,
        send_buffer: 4096,
        faults: Faults {
            short_send: 0.1,
            ..Faults::default()
        },
        ..Simulation::default()
    }
}

/// The numbers in each publisher's messages, in order of arrival.
fn numbers(messages: &[Vec<u8>]) -> HashMap<String, Vec<usize>> {
    let mut numbers: HashMap<String, Vec<usize>> = HashMap::new();
    for message in messages {
        let text = std::str::from_utf8(message).expect("published messages are text");
        let (publisher, number) = text
            .split_once(':')
            .expect("a message has a publisher and a number");
        numbers
            .entry(publisher.to_owned())
            .or_default()
            .push(number.trim_end().parse().expect("the number is valid"));
    }
    numbers
}

fn open(seed: u64, config: &Config) -> Bench {
    let mut bench = Bench::new(simulation(seed), config);
    for _ in 0..SUBSCRIBERS + PUBLISHERS {
        bench.connect();
    }
    bench.run_for(Duration::from_millis(200));
    bench
}

fn publish(bench: &mut Bench, publisher: usize, topic: &str, number: usize, padding: usize) {
    let text = format!("{PUBLISH}{topic} {publisher}:{number}{:padding$}", "");
    bench.send(SUBSCRIBERS + publisher, text.as_bytes());
}

#[test]
fn subscribers_get_the_messages_of_their_topics_in_the_order_of_each_publisher() {
    each_seed(200, |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bench = open(seed, &config());
        for at in 0..SUBSCRIBERS {
            let pattern = ["a/1", "a/*", ">", "b/1"][at % 4];
            bench.send(at, format!("{SUBSCRIBE}{pattern}").as_bytes());
        }
        bench.run_for(Duration::from_millis(100));
        let mut published: HashMap<&str, Vec<(usize, usize)>> = HashMap::new();
        for number in 0..MESSAGES {
            for publisher in 0..PUBLISHERS {
                let topic = ["a/1", "a/2", "b/1"][random.usize(0..3)];
                publish(&mut bench, publisher, topic, number, random.usize(0..300));
                published
                    .entry(topic)
                    .or_default()
                    .push((publisher, number));
            }
            if random.bool() {
                bench.run_for(Duration::from_millis(random.u64(0..4)));
            }
        }
        bench.run_for(SECOND);
        for at in 0..SUBSCRIBERS {
            let topics: &[&str] = [
                &["a/1"][..],
                &["a/1", "a/2"],
                &["a/1", "a/2", "b/1"],
                &["b/1"],
            ][at % 4];
            let got = numbers(&bench.clients[at].echoes);
            for publisher in 0..PUBLISHERS {
                let mut expected: Vec<usize> = topics
                    .iter()
                    .flat_map(|topic| published.get(topic).into_iter().flatten())
                    .filter(|(from, _)| *from == publisher)
                    .map(|(_, number)| *number)
                    .collect();
                expected.sort_unstable();
                let got = got.get(&publisher.to_string()).cloned().unwrap_or_default();
                assert_eq!(
                    got, expected,
                    "subscriber {at}, publisher {publisher}, seed {seed}"
                );
            }
        }
    });
}

/// Client 0 does not read while others publish 200 KB; then it reads again. Returns its messages.
fn stall_one(rules: Vec<TopicRule>, seed: u64) -> (Bench, Vec<Vec<u8>>) {
    let mut config = config();
    config.max_send_queue = 16 * 1024;
    config.slow_consumer = SlowConsumer::Close;
    config.topics = rules;
    config.ping_timeout = None;
    let mut bench = open(seed, &config);
    for at in 0..SUBSCRIBERS {
        bench.send(at, format!("{SUBSCRIBE}t/>").as_bytes());
    }
    bench.run_for(Duration::from_millis(100));
    bench.clients[0].is_silent = true;
    for number in 0..200 {
        for publisher in 0..2 {
            publish(
                &mut bench,
                publisher,
                ["t/x", "t/y"][publisher],
                number,
                500,
            );
        }
        bench.run_for(Duration::from_millis(5));
        for at in 1..SUBSCRIBERS {
            let behind = 2 * (number + 1) - bench.clients[at].echoes.len();
            // Publishers pause for up to 50 ms, 20 messages, until the server treats the client as slow.
            assert!(
                behind < 36,
                "another subscriber is {behind} messages behind"
            );
        }
    }
    bench.clients[0].is_silent = false;
    bench.run_for(SECOND);
    let got = bench.clients[0].echoes.clone();
    let missed = bench.record.borrow().missed;
    if bench.is_open(0) {
        let received: usize = bench.clients.iter().map(|client| client.echoes.len()).sum();
        let sent = 400 * SUBSCRIBERS as u64;
        assert_eq!(
            received as u64 + missed,
            sent,
            "each message is received or reported as dropped"
        );
    }
    (bench, got)
}

#[test]
fn the_conflate_policy_keeps_the_latest_message_of_each_topic() {
    for seed in 0..20 {
        let rules = vec![TopicRule::new("t/*", SlowConsumer::Conflate)];
        let (_, got) = stall_one(rules, seed);
        let got = numbers(&got);
        for publisher in ["0", "1"] {
            let numbers = &got[publisher];
            assert!(numbers.is_sorted_by(|a, b| a < b));
            assert_eq!(numbers.last(), Some(&199), "the latest message is received");
            let before_stall = numbers.iter().zip(0..).take_while(|(got, at)| *got == at);
            let late = numbers.len() - before_stall.count();
            assert!(late <= 3, "at most two others waited: {numbers:?}");
        }
    }
}

#[test]
fn the_first_matching_topic_rule_applies() {
    let rules = vec![
        TopicRule::new("t/x", SlowConsumer::DropNewest),
        TopicRule::new("t/>", SlowConsumer::DropOldest),
    ];
    let (_, got) = stall_one(rules, 3);
    let got = numbers(&got);
    assert_ne!(
        got["0"].last(),
        Some(&199),
        "the newest message of t/x was dropped"
    );
    assert_eq!(
        got["1"].last(),
        Some(&199),
        "the newest message of t/y is received"
    );
}

/// A topic with the policy `Close` loses no message, regardless of the server's policy.
#[test]
fn the_strictest_policy_applies_to_messages_that_are_sent_together() {
    for (server, seed) in [SlowConsumer::DropOldest, SlowConsumer::Conflate]
        .into_iter()
        .zip(0..)
    {
        let mut config = config();
        config.max_send_queue = 64 * 1024;
        config.slow_consumer = server;
        config.topics = vec![TopicRule::new("kept", SlowConsumer::Close)];
        config.ping_timeout = None;
        let mut bench = open(seed, &config);
        for topic in ["kept", "dropped"] {
            bench.send(0, format!("{SUBSCRIBE}{topic}").as_bytes());
        }
        bench.run_for(Duration::from_millis(100));
        bench.clients[0].is_silent = true;
        // These are sent together, and are longer than the socket's send buffer.
        let together = (0..50).flat_map(|number| {
            ["kept 1", "dropped 2"].map(|to| format!("{PUBLISH}{to}:{number}{:100}", ""))
        });
        bench.send_together(SUBSCRIBERS, together);
        bench.run_for(Duration::from_millis(50));
        for number in 50..400 {
            publish(&mut bench, 2, "dropped", number, 400);
            bench.run_for(Duration::from_millis(5));
        }
        bench.clients[0].is_silent = false;
        bench.run_for(SECOND);
        assert!(bench.is_open(0), "{server:?}: the messages of `kept` fit");
        let got = numbers(&bench.clients[0].echoes);
        let all: Vec<usize> = (0..50).collect();
        assert_eq!(got["1"], all, "{server:?}");
        assert!(got["2"].len() < 400, "messages of `dropped` are dropped");
    }
}

#[test]
fn the_servers_policy_applies_to_a_topic_without_a_rule() {
    let (bench, _) = stall_one(Vec::new(), 5);
    assert!(!bench.is_open(0));
    let record = bench.record.borrow();
    assert_eq!(record.ends.len(), 1, "only the slow client is closed");
    assert_eq!(record.ends[0].2.cause, tidewheel::Cause::SlowConsumer);
}

#[test]
fn another_thread_can_publish_send_and_close() {
    let mut bench = open(1, &config());
    bench.send(0, format!("{SUBSCRIBE}news").as_bytes());
    bench.run_for(Duration::from_millis(50));
    bench.publisher.publish("news", "to all").unwrap();
    assert!(bench.publisher.publish("news/*", "to a pattern").is_err());
    let ids: Vec<_> = bench.record.borrow().open.keys().copied().collect();
    for id in &ids {
        bench.publisher.send(*id, &b"to one"[..]).unwrap();
    }
    bench.run_for(Duration::from_millis(50));
    assert_eq!(
        bench.clients[0].echoes,
        [b"to all".to_vec(), b"to one".to_vec()]
    );
    assert_eq!(bench.clients[1].echoes, [b"to one".to_vec()]);
    let code = tidewheel::CloseCode::NORMAL_CLOSURE;
    for id in &ids {
        bench.publisher.close(*id, code, "enough").unwrap();
        bench.publisher.send(*id, "too late").unwrap();
    }
    bench.run_for(Duration::from_millis(100));
    assert_eq!(bench.shard.connections(), 0);
    assert_eq!(bench.clients[1].echoes.len(), 1);
}
