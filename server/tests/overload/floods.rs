//! Each connection gets its share: clients that flood do not delay another.

use std::{io::Write, sync::atomic::AtomicBool, sync::atomic::Ordering, time::Duration};

use crate::{
    bystander::Bystander,
    overload,
    support::{
        client::{self, CONTINUATION, Client, PONG, TEXT},
        ms,
        process::Server,
        wait,
    },
    turn, until_quick,
};

/// A bystander's p99 beside ten clients that flood.
const BOUND: Duration = ms(10);

/// Ten clients send `bytes` again and again, and read what comes back.
#[track_caller]
fn hold(what: &str, flags: &str, request: &str, bytes: &[u8]) {
    let _turn = turn();
    until_quick(|| measure(what, flags, request, bytes));
}

fn measure(what: &str, flags: &str, request: &str, bytes: &[u8]) -> Result<(), String> {
    let server = Server::start(flags);
    let bystander = Bystander::start(Client::open(&server));
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
            let mut reader = client.stream.try_clone().expect("a descriptor");
            let mut writer = client.stream.try_clone().expect("a descriptor");
            scope.spawn(move || {
                // Until it is shut down.
                let _ = std::io::copy(&mut reader, &mut std::io::sink());
            });
            scope.spawn(
                move || while !stops.load(Ordering::Relaxed) && writer.write_all(bytes).is_ok() {},
            );
        }
        wait::pause(overload());
        stops.store(true, Ordering::Relaxed);
        let quick = bystander.check_p99(what, began, BOUND);
        let lives = server.connections();
        for client in &clients {
            let _ = client.stream.shutdown(std::net::Shutdown::Both);
        }
        assert_eq!(lives, 11, "{what}: nobody was cut");
        quick
    })
}

/// Frames until there are 64 KiB of them.
fn many(frame: &[u8]) -> Vec<u8> {
    frame.repeat((64 << 10) / frame.len())
}

#[test]
fn empty_messages() {
    let flood = many(&client::text(""));
    hold("empty messages", "--shards 1", client::REQUEST, &flood);
}

#[test]
fn fragments_of_one_byte() {
    // Messages of 500 fragments each.
    let mut message = client::frame(TEXT, b"x");
    for _ in 0..498 {
        message.extend(client::frame(CONTINUATION, b"x"));
    }
    message.extend(client::frame(CONTINUATION | client::FIN, b"x"));
    let flood = message.repeat(16);
    hold("fragments", "--shards 1", client::REQUEST, &flood);
}

#[test]
fn pongs() {
    let flood = many(&client::frame(PONG, b""));
    hold("pongs", "--shards 1", client::REQUEST, &flood);
}

/// A request that offers permessage-deflate.
fn deflate() -> String {
    client::REQUEST.replace(
        "\r\n\r\n",
        "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    )
}

/// A compressed message of `size` times the same byte.
fn compressed(size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut compress = flate2::Compress::new(flate2::Compression::best(), false);
    out.reserve(size + 64);
    let flush = flate2::FlushCompress::Sync;
    compress
        .compress_vec(&vec![b'a'; size], &mut out, flush)
        .expect("it compresses");
    // RFC 7692 7.2.1: without the tail.
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    client::frame(client::FIN | 0x40 | TEXT, &out)
}

#[test]
fn small_compressed_messages() {
    let flood = many(&compressed(20));
    let flags = "--shards 1 --compression on";
    hold("small compressed messages", flags, &deflate(), &flood);
}

#[test]
fn messages_that_inflate_to_just_under_the_limit() {
    let flood = many(&compressed((1 << 20) - 1));
    let flags = "--shards 1 --compression on";
    hold("messages that inflate", flags, &deflate(), &flood);
}
