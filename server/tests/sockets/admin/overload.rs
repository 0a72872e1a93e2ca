//! Limits of the admin listener under more connections than it serves at once.

use std::{io::Write as _, sync::Arc};

use super::{TOKEN, connect};
use crate::support::{
    ms,
    process::{Server, serve},
    raise_descriptor_limit, wait,
};

/// Limit of connections of the admin listener.
const CONNECTIONS_MAX: usize = 64;

const MIB: u64 = 1 << 20;

/// Asserts that the metrics come long before the deadlines of the other connections.
#[track_caller]
fn assert_responsive(server: &Server) {
    let start = wait::now();
    let metrics = server.admin("/metrics");
    wait::assert_within(start, ms(5000), "a response with the metrics");
    assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
}

#[test]
fn a_thousand_idle_connections_take_few_descriptors_and_do_not_delay_a_request() {
    raise_descriptor_limit();
    let server = Server::spawn(&mut serve("--shards 1"));
    // The first request makes the server open the descriptors that it keeps.
    assert_responsive(&server);
    let before = server.descriptors();
    for sent in ["", "GET /metrics HTTP/1.1\r\nHost: a\r\n"] {
        let mut streams = Vec::new();
        for at in 0..1000 {
            let mut stream = connect(&server);
            // Fails if the server has closed the connection in favour of a newer one.
            let _ = stream.write_all(sent.as_bytes());
            streams.push(stream);
            if at % 100 == 99 {
                assert_responsive(&server);
                let more = server.descriptors().saturating_sub(before);
                assert!(more <= CONNECTIONS_MAX + 2, "{more} more descriptors");
            }
        }
    }
    server.signal(rustix::process::Signal::TERM);
    let (_, log) = server.wait(ms(5000));
    assert!(!log.contains("WARN"), "{log}");
}

#[test]
fn idle_connections_take_a_small_part_of_a_low_descriptor_limit() {
    let server = Server::spawn(&mut crate::service::with_descriptors(64));
    let streams: Vec<_> = (0..200).map(|_| connect(&server)).collect();
    assert_responsive(&server);
    let descriptors = server.descriptors();
    assert!(descriptors < 50, "{descriptors} of 64 descriptors");
    drop(streams);
    server.signal(rustix::process::Signal::TERM);
    let (_, log) = server.wait(ms(5000));
    assert!(!log.contains("cannot accept"), "{log}");
}

#[test]
fn incomplete_bodies_take_little_memory_and_do_not_delay_a_request() {
    raise_descriptor_limit();
    let server = Server::spawn(&mut serve("--shards 1 --publish-token s3cret"));
    assert_responsive(&server);
    let before = server.memory("VmRSS");
    let size = 1 << 20;
    let head =
        format!("POST /publish/a HTTP/1.1\r\nHost: a\r\n{TOKEN}Content-Length: {size}\r\n\r\n");
    let request: Arc<[u8]> = [head.as_bytes(), &vec![b'x'; size - 1]].concat().into();
    let streams: Vec<_> = (0..400)
        .map(|_| {
            let (mut stream, request) = (connect(&server), Arc::clone(&request));
            std::thread::spawn(move || {
                // Fails if the server closes the connection.
                let _ = stream.write_all(&request);
                stream
            })
        })
        .collect();
    let streams: Vec<_> = streams
        .into_iter()
        .map(|it| it.join().expect("the thread only writes"))
        .collect();
    assert_responsive(&server);
    let grown = server.memory("VmHWM").saturating_sub(before);
    assert!(
        grown < 60 * MIB,
        "{} MiB for 400 MiB of bodies",
        grown / MIB
    );
    drop(streams);
}

#[test]
fn clients_that_do_not_read_responses_do_not_delay_a_request() {
    raise_descriptor_limit();
    let server = Server::spawn(&mut serve("--shards 1"));
    assert_responsive(&server);
    let before = server.memory("VmRSS");
    let requests = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    let mut streams = Vec::new();
    for _ in 0..100 {
        let mut stream = connect(&server);
        stream.set_nonblocking(true).expect("O_NONBLOCK can be set");
        while stream
            .write(requests.as_bytes())
            .is_ok_and(|count| count > 0)
        {}
        streams.push(stream);
    }
    let metrics = server.admin("/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
    let grown = server.memory("VmHWM").saturating_sub(before);
    assert!(grown < 60 * MIB, "{} MiB more", grown / MIB);
}
