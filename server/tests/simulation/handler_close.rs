//! Reports of connections that the application closes.

use std::time::Duration;

use tidewheel::{
    Cause, CloseCode, Initiator,
    ring::sim::{Faults, Simulation},
    shard::TICK_MS,
};

use super::{
    bench::{Bench, SECOND, config},
    close_storm::assert_nothing_left,
};

#[test]
fn r18_a_close_of_the_server_is_reported_when_the_client_answers_or_at_the_close_timeout() {
    let simulation = Simulation {
        faults: Faults::NONE,
        ..Simulation::default()
    };
    let mut bench = Bench::new(simulation, &config());
    let answering = bench.connect();
    bench.run_for(Duration::from_millis(20));
    let silent = bench.connect();
    bench.run_for(Duration::from_millis(20));
    assert!(bench.is_open(answering) && bench.is_open(silent));
    bench.clients[silent].is_silent = true;
    let ids: Vec<_> = bench.record.borrow().open.keys().copied().collect();
    let begin = bench.network.now();
    for id in &ids {
        let code = CloseCode(4001);
        bench
            .publisher
            .close(*id, code, "closed by the test")
            .unwrap();
    }
    bench.run_for(2 * SECOND);
    let record = bench.record.borrow();
    let [(_, first_at, first), (_, second_at, second)] = record.ends.as_slice() else {
        panic!("`close` was not called twice: {:?}", record.ends);
    };
    assert_eq!(
        (first.initiator, first.cause),
        (Initiator::Local, Cause::LocalClose)
    );
    assert_eq!(
        first.received.as_ref().map(|close| close.code.0),
        Some(4001)
    );
    assert!(
        *first_at < begin + Duration::from_millis(50),
        "the report follows the answer"
    );
    assert_eq!(
        (second.initiator, second.cause),
        (Initiator::Local, Cause::CloseTimeout)
    );
    assert_eq!(
        (&second.received, second.code()),
        (&None, CloseCode::ABNORMAL_CLOSURE)
    );
    for end in [first, second] {
        let sent = end.sent.as_ref().unwrap();
        assert_eq!((sent.code.0, &*sent.reason), (4001, "closed by the test"));
    }
    let deadline = begin + SECOND;
    let latest = deadline + Duration::from_millis(2 * TICK_MS);
    assert!(
        *second_at >= deadline && *second_at <= latest,
        "{second_at:?}"
    );
    drop(record);
    assert_nothing_left(&mut bench);
}
