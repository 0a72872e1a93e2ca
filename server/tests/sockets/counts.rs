//! What the metrics count.

use crate::support::{
    client::{BINARY, Client, FIN, PING, PONG, binary, frame, text},
    ms,
    process::Server,
    wait,
};

#[test]
fn messages_and_payload_bytes_count_both_ways_and_control_frames_do_not() {
    let server = Server::start("--shards 2");
    for length in [0, 5, 5000, 70_000] {
        let mut client = Client::open(&server);
        client.send(&frame(PING, b"not counted"));
        client.expect(PONG, b"not counted");
        client.send(&binary(&vec![7; length]));
        client.expect(FIN | BINARY, vec![7; length]);
    }
    for (name, value) in [
        ("tidewheel_messages_received_total", 4),
        ("tidewheel_messages_sent_total", 4),
        ("tidewheel_received_bytes_total", 75_005),
        ("tidewheel_sent_bytes_total", 75_005),
    ] {
        // They were counted before they were sent.
        assert_eq!(server.metric(name, ""), value, "{name}");
    }
}

#[test]
fn what_waits_for_a_client_is_told_until_it_has_read_it() {
    let server = Server::start("--shards 1 --ping-interval off");
    let waiting = || server.metric("tidewheel_send_queue_bytes", "");
    let message = binary(&[1; 60_000]);
    let mut reads = Client::open(&server);
    reads.send(&message);
    reads.expect(FIN | BINARY, [1; 60_000]);
    assert_eq!(waiting(), 0, "what was taken at once never waited");
    let mut client = Client::open_narrow(&server);
    client.stuff_until_paused(&server, &message);
    assert!(waiting() > 0);
    assert_eq!(server.metric("tidewheel_receive_pauses_total", ""), 1);
    client.reset();
    server.until_connections(1);
    assert_eq!(waiting(), 0, "it left nothing behind");
}

#[test]
fn a_ping_that_is_answered_is_a_round_trip() {
    let server = Server::start("--shards 1 --ping-interval 80ms --ping-timeout 10s");
    let count = || server.metric("tidewheel_ping_round_trip_seconds_count", "");
    let mut client = Client::open(&server);
    // What nobody asked for is none: with the payload that a ping before all others would have.
    client.send(&frame(PONG, &[0; 4]));
    for answered in 0..3 {
        let ping = client.frame();
        assert_eq!((ping.first, ping.payload.len()), (PING, 4));
        assert_eq!(count(), answered);
        // Neither is the answer to something else.
        client.send(&frame(PONG, b"else"));
        client.send(&frame(PONG, &ping.payload));
        wait::until(ms(5000), "the pong is counted", || count() == answered + 1);
    }
    let mut late = Client::open(&server);
    let ping = late.frame();
    wait::pause(ms(30));
    late.send(&frame(PONG, &ping.payload));
    let slow = || {
        let bound = |le| server.metric("tidewheel_ping_round_trip_seconds_bucket", le);
        bound("le=\"+Inf\"") - bound("le=\"0.02\"")
    };
    wait::until(ms(5000), "a slow answer counts as slow", || slow() >= 1);
    client.send(&text("still open"));
}

#[test]
fn turns_are_timed() {
    let server = Server::start("--shards 1");
    let count = || server.metric("tidewheel_turn_seconds_count", "");
    let before = count();
    let mut client = Client::open(&server);
    for _ in 0..10 {
        client.send(&text("hello"));
        client.expect(0x81, "hello");
    }
    // The last turn is counted before its answer is sent.
    assert!(count() >= before + 10);
}
