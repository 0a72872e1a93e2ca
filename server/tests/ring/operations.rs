//! Other operations, and the setup.

use std::{
    io::{Read, Write},
    net::TcpListener,
    time::Duration,
};

use tidewheel::ring::{Op, OpCode, Ring, Setup, Socket, Token, Uring, Wait};

use super::{connected, next};

#[test]
fn query_tcp_info_returns_the_time_since_the_peers_last_bytes() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind to port 0");
    let mut ring = Uring::new(&Setup::default(), None).expect("io_uring is available");
    let connect = Op::Connect {
        socket: Socket(3),
        peer: listener.local_addr().expect("the listener is bound"),
    };
    ring.push(connect, Token::new(0, 3));
    ring.enter(Wait::For(Duration::from_secs(10)))
        .expect("enter succeeds");
    assert!(ring.reap().is_some_and(|completion| completion.result >= 0));
    let (mut peer, _) = listener.accept().expect("the client has connected");
    peer.write_all(b"arrived, but not read")
        .expect("the socket has room");
    let mut clock = Uring::new(&Setup::default(), None).expect("io_uring is available");
    let mut pass = |millis| {
        clock
            .enter(Wait::For(Duration::from_millis(millis)))
            .expect("enter succeeds");
    };
    pass(100);
    ring.push(Op::QueryTcpInfo { socket: Socket(3) }, Token::new(0, 3));
    ring.enter(Wait::For(Duration::from_secs(10)))
        .expect("enter succeeds");
    // A delay between `enter` and `reap` does not count as the peer's silence.
    pass(5000);
    let completion = ring.reap().expect("the query completes");
    assert_eq!(completion.op, OpCode::QueryTcpInfo);
    // Before Linux 6.8 the query fails.
    assert!(
        (80..4000).contains(&completion.result) || completion.result == -libc::EOPNOTSUPP,
        "{completion:?}"
    );
}

#[test]
fn a_single_receive_ends_with_the_first_bytes() {
    let (mut ring, mut peer) = connected();
    let receive = Op::Receive {
        socket: Socket(0),
        multishot: false,
    };
    ring.push(receive, Token::new(0, 0));
    ring.enter(Wait::No).expect("enter succeeds");
    peer.write_all(b"hello").expect("the socket has room");
    let completion = next(&mut ring);
    assert!(!completion.more);
    let buffer = completion.buffer.expect("the completion has a buffer");
    assert_eq!(&*buffer, b"hello");
    drop(buffer);
}

#[test]
fn send_all_sends_every_byte_and_waits_for_room() {
    const LENGTH: usize = 32 << 20;
    let (mut ring, mut peer) = connected();
    let reader = std::thread::spawn(move || {
        let mut bytes = vec![0; LENGTH];
        peer.read_exact(&mut bytes).expect("all bytes arrive");
        bytes.iter().all(|byte| *byte == 7)
    });
    let send = Op::SendAll {
        socket: Socket(0),
        bytes: vec![7; LENGTH],
    };
    ring.push(send, Token::new(0, 0));
    let completion = next(&mut ring);
    assert_eq!(
        (completion.op, completion.result),
        (OpCode::SendAll, LENGTH as i32)
    );
    assert!(reader.join().expect("the thread does not panic"));
}

#[test]
fn an_impossible_setup_is_an_error() {
    for (buffers, buffer_size) in [
        (0, 4096),
        (3, 4096),
        (1 << 15 | 1, 4096),
        (4, 0),
        (4, u32::MAX),
    ] {
        let mut setup = Setup::default();
        setup.buffers = buffers;
        setup.buffer_size = buffer_size;
        let result = Uring::new(&setup, None);
        // The host may have 16 GiB of address space to map.
        assert!(result.is_err() || buffer_size == u32::MAX, "{setup:?}");
    }
}
