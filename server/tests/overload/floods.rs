//! Fairness between connections: clients that flood the server do not delay another client.

use std::{io::Write, sync::atomic::AtomicBool, sync::atomic::Ordering, time::Duration};

use crate::{
    PROBE_INTERVAL, check_p99, overload_duration,
    support::{
        client::{self, CONTINUATION, Client, PONG, TEXT},
        ms,
        prober::Prober,
        process::Server,
        retry, turn, wait,
    },
};

/// Bound of the 99th percentile of another client's round trips.
const P99_MAX: Duration = ms(10);

/// Floods a server with `bytes` from ten clients that read all answers, and asserts the round trips of
/// another client.
#[track_caller]
fn assert_fair(what: &str, flags: &str, request: &str, bytes: &[u8]) {
    let _turn = turn::take();
    retry::until_ok(|| measure(what, flags, request, bytes));
}

fn measure(what: &str, flags: &str, request: &str, bytes: &[u8]) -> Result<(), String> {
    let server = Server::start(flags);
    let prober = Prober::start(Client::open(&server), PROBE_INTERVAL);
    let stops = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<Client> = (0..10)
            .map(|_| {
                let mut client = Client::connect(&server);
                client.send(request.as_bytes());
                client.accept();
                client
            })
            .collect();
        let began = wait::now();
        for client in &clients {
            let stops = &stops;
            let mut reader = client.stream.try_clone().expect("a descriptor is free");
            let mut writer = client.stream.try_clone().expect("a descriptor is free");
            scope.spawn(move || {
                // Ends when the socket is shut down.
                let _ = std::io::copy(&mut reader, &mut std::io::sink());
            });
            scope.spawn(
                move || while !stops.load(Ordering::Relaxed) && writer.write_all(bytes).is_ok() {},
            );
        }
        wait::pause(overload_duration());
        stops.store(true, Ordering::Relaxed);
        let result = check_p99(&prober, what, began, P99_MAX);
        let open = server.connections();
        for client in &clients {
            let _ = client.stream.shutdown(std::net::Shutdown::Both);
        }
        assert_eq!(open, 11, "{what}: a connection was closed");
        result
    })
}

/// Repeats a frame up to 64 KiB.
fn repeated(frame: &[u8]) -> Vec<u8> {
    frame.repeat((64 << 10) / frame.len())
}

#[test]
fn empty_messages_do_not_delay_another_client() {
    let flood = repeated(&client::text(""));
    assert_fair("empty messages", "--shards 1", client::REQUEST, &flood);
}

#[test]
fn fragments_of_one_byte_do_not_delay_another_client() {
    // Messages of 500 fragments each.
    let mut message = client::frame(TEXT, b"x");
    for _ in 0..498 {
        message.extend(client::frame(CONTINUATION, b"x"));
    }
    message.extend(client::frame(CONTINUATION | client::FIN, b"x"));
    let flood = message.repeat(16);
    assert_fair("fragments", "--shards 1", client::REQUEST, &flood);
}

#[test]
fn pongs_do_not_delay_another_client() {
    let flood = repeated(&client::frame(PONG, b""));
    assert_fair("pongs", "--shards 1", client::REQUEST, &flood);
}

/// Returns a request that offers permessage-deflate.
fn deflate_request() -> String {
    client::REQUEST.replace(
        "\r\n\r\n",
        "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    )
}

/// Returns a compressed message of `size` equal bytes.
fn compressed(size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut compress = flate2::Compress::new(flate2::Compression::best(), false);
    out.reserve(size + 64);
    let flush = flate2::FlushCompress::Sync;
    compress
        .compress_vec(&vec![b'a'; size], &mut out, flush)
        .expect("the data can be compressed");
    // RFC 7692 7.2.1: the tail of the flush is removed.
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    client::frame(client::FIN | 0x40 | TEXT, &out)
}

#[test]
fn small_compressed_messages_do_not_delay_another_client() {
    let flood = repeated(&compressed(20));
    let flags = "--shards 1 --compression on";
    assert_fair(
        "small compressed messages",
        flags,
        &deflate_request(),
        &flood,
    );
}

#[test]
fn messages_that_inflate_to_just_under_the_limit_do_not_delay_another_client() {
    let flood = repeated(&compressed((1 << 20) - 1));
    let flags = "--shards 1 --compression on";
    assert_fair("messages that inflate", flags, &deflate_request(), &flood);
}
