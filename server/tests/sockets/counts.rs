//! Values of the metrics.

use crate::support::{
    client::{BINARY, Client, FIN, PING, PONG, binary, frame, text},
    ms,
    process::Server,
    wait,
};

#[test]
fn messages_and_payload_bytes_are_counted_and_control_frames_are_not() {
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
        // The server counts before it sends.
        assert_eq!(server.metric(name, ""), value, "{name}");
    }
}

#[test]
fn send_queue_bytes_counts_the_queued_bytes_of_open_connections() {
    let server = Server::start("--shards 1 --ping-interval off");
    let waiting = || server.metric("tidewheel_send_queue_bytes", "");
    let message = binary(&[1; 60_000]);
    let mut reads = Client::open(&server);
    reads.send(&message);
    reads.expect(FIN | BINARY, [1; 60_000]);
    assert_eq!(
        waiting(),
        0,
        "bytes that the kernel took at once were never queued"
    );
    let mut client = Client::open_with_small_buffer(&server);
    client.send_until_paused(&server, &message);
    assert!(waiting() > 0);
    assert_eq!(server.metric("tidewheel_receive_pauses_total", ""), 1);
    client.reset();
    server.until_connections(1);
    assert_eq!(
        waiting(),
        0,
        "the bytes of a closed connection are still counted"
    );
}

#[test]
fn a_ping_with_a_matching_pong_is_a_round_trip() {
    let server = Server::start("--shards 1 --ping-interval 80ms --ping-timeout 10s");
    let count = || server.metric("tidewheel_ping_round_trip_seconds_count", "");
    let mut client = Client::open(&server);
    // An unsolicited Pong does not count, even with a plausible payload.
    client.send(&frame(PONG, &[0; 4]));
    for answered in 0..3 {
        let ping = client.frame();
        assert_eq!((ping.first, ping.payload.len()), (PING, 4));
        assert_eq!(count(), answered);
        // A Pong with another payload does not count.
        client.send(&frame(PONG, b"else"));
        client.send(&frame(PONG, &ping.payload));
        wait::until(ms(5000), "the Pong is counted", || count() == answered + 1);
    }
    let mut late = Client::open(&server);
    let ping = late.frame();
    wait::pause(ms(30));
    late.send(&frame(PONG, &ping.payload));
    let slow = || {
        let bound = |le| server.metric("tidewheel_ping_round_trip_seconds_bucket", le);
        bound("le=\"+Inf\"") - bound("le=\"0.02\"")
    };
    wait::until(
        ms(5000),
        "a slow Pong is counted in a higher bucket",
        || slow() >= 1,
    );
    client.send(&text("hello"));
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
    // A turn is counted before its sends are submitted.
    assert!(count() >= before + 10);
}
