//! Receives into a buffer of the caller.

use std::io::Write;

use bytes::BytesMut;
use tidewheel::ring::{Op, Ring, Socket, Token, Uring, Wait};

use super::{connected, next};

/// Pushes a fill of socket 0, and returns its token.
fn fill(ring: &mut Uring, buffer: BytesMut, limit: usize, coalesce: bool) -> Token {
    let token = Token::new(0, 0);
    let socket = Socket(0);
    let fill = Op::Fill {
        socket,
        buffer,
        limit,
        coalesce,
    };
    ring.push(fill, token);
    token
}

#[test]
fn a_fill_appends_to_its_buffer_and_receives_at_most_its_limit() {
    let (mut ring, mut peer) = connected();
    let mut buffer = BytesMut::with_capacity(100);
    buffer.extend_from_slice(b"> ");
    let start = buffer.as_ptr();
    peer.write_all(b"hello, world")
        .expect("the socket has room");
    for (limit, received, expected) in [(5, 5, "> hello"), (98 - 5, 7, "> hello, world")] {
        let token = fill(&mut ring, buffer, limit, false);
        let completion = next(&mut ring);
        assert_eq!((completion.token, completion.result), (token, received));
        assert!(!completion.more && completion.buffer.is_none());
        buffer = ring.take_filled(token);
        assert_eq!((&*buffer, buffer.as_ptr()), (expected.as_bytes(), start));
    }
    // Without bytes the fill waits; a reset ends it.
    let token = fill(&mut ring, buffer, 10, false);
    ring.enter(Wait::No).expect("enter succeeds");
    assert!(ring.reap().is_none());
    let reset = Op::Reset { socket: Socket(0) };
    ring.push(reset, Token::new(0, 0));
    let completion = next(&mut ring);
    assert_eq!(completion.token, token);
    assert!(completion.result <= 0, "{completion:?}");
    assert_eq!(&*ring.take_filled(token), b"> hello, world");
}

#[test]
fn the_peers_fin_completes_a_fill_with_zero_bytes() {
    let (mut ring, peer) = connected();
    let token = fill(&mut ring, BytesMut::with_capacity(100), 100, false);
    ring.enter(Wait::No).expect("enter succeeds");
    drop(peer);
    assert_eq!(next(&mut ring).result, 0);
    assert!(ring.take_filled(token).is_empty());
}

#[test]
fn a_ring_may_be_dropped_during_a_receive() {
    let (mut ring, mut peer) = connected();
    // The waker holds a descriptor of the ring.
    let _waker = ring.waker();
    fill(&mut ring, BytesMut::with_capacity(100), 100, false);
    ring.enter(Wait::No).expect("enter succeeds");
    drop(ring);
    // The connection may be closed already.
    let _ = peer.write_all(b"hello");
}

#[test]
#[should_panic(expected = "the kernel may be writing to it")]
fn the_buffer_of_a_fill_cannot_be_taken_before_its_completion() {
    let (mut ring, _peer) = connected();
    let token = fill(&mut ring, BytesMut::with_capacity(100), 100, false);
    ring.enter(Wait::No).expect("enter succeeds");
    let _ = ring.take_filled(token);
}

#[test]
fn a_coalescing_fill_waits_for_its_limit_or_for_100_ms() {
    const LIMIT: usize = 1000;
    let (mut ring, mut peer) = connected();
    let mut write = |bytes: &[u8]| peer.write_all(bytes).expect("the socket has room");

    write(&[1; 10]);
    let token = fill(&mut ring, BytesMut::with_capacity(LIMIT), LIMIT, true);
    let completion = next(&mut ring);
    assert_eq!(
        (completion.token, completion.result),
        (token, -libc::ECANCELED)
    );
    let buffer = ring.take_filled(token);
    assert!(buffer.is_empty());
    // The bytes that have arrived are not lost.
    fill(&mut ring, buffer, LIMIT, false);
    assert_eq!(next(&mut ring).result, 10);

    // The rest arrives in two parts, and one fill receives both.
    let mut filled = ring.take_filled(token);
    fill(&mut ring, filled, LIMIT - 10, true);
    write(&[2; 500]);
    ring.enter(Wait::No).expect("enter succeeds");
    write(&[3; LIMIT - 510]);
    loop {
        let completion = next(&mut ring);
        filled = ring.take_filled(token);
        if completion.result != -libc::ECANCELED {
            assert_eq!(completion.result, LIMIT as i32 - 10);
            break;
        }
        // The machine was too slow between the two writes.
        fill(&mut ring, filled, LIMIT - 10, true);
    }
    assert_eq!(filled[..10], [1; 10]);
    assert_eq!(filled[10..510], [2; 500]);
    assert_eq!(filled[510..], [3; LIMIT - 510]);

    // A receive after the fill completes with the first byte.
    let receive = Op::Receive {
        socket: Socket(0),
        multishot: true,
    };
    ring.push(receive, Token::new(0, 0));
    ring.enter(Wait::No).expect("enter succeeds");
    write(&[4]);
    assert_eq!(next(&mut ring).result, 1);
    assert!(ring.reap().is_none(), "no other operation completes");
}

#[test]
fn a_coalescing_fill_ends_with_the_peers_fin() {
    let (mut ring, mut peer) = connected();
    peer.write_all(&[1; 10]).expect("the socket has room");
    drop(peer);
    let token = fill(&mut ring, BytesMut::with_capacity(100), 100, true);
    assert_eq!(next(&mut ring).result, 10);
    assert_eq!(ring.take_filled(token), [1; 10][..]);
}
