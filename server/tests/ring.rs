//! The ring over a real kernel: what a shard counts on, and cannot see when it fails.

use std::{
    collections::HashSet,
    net::{TcpListener, TcpStream},
    time::Duration,
};

use bytes::BytesMut;
use tidewheel::ring::{
    Completion, Op, OpCode, Outbound, Ring, SendMode, Setup, Socket, Token, Uring, Wait,
};

/// A ring with short queues, and a connect of each of its sockets under way.
fn crowded(sockets: u32) -> (Uring, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let setup = Setup {
        submissions: 8,
        completions: 8,
        sockets,
        buffers: 1,
        buffer_size: 256,
    };
    let mut ring = Uring::new(&setup, None).expect("a ring");
    for socket in 0..sockets {
        let connect = Op::Connect {
            socket: Socket(socket),
            peer: listener.local_addr().expect("it is bound"),
        };
        ring.push(connect, Token::new(0, socket));
    }
    (ring, listener)
}

/// Waits until an operation of this kind has completed, successfully and once, on each socket.
fn complete_on_each(ring: &mut Uring, op: OpCode, sockets: u32) {
    let mut completed = HashSet::new();
    while completed.len() < sockets as usize {
        ring.enter(Wait::For(Duration::from_secs(10)))
            .expect("the ring works");
        let before = completed.len();
        while let Some(completion) = ring.reap() {
            assert_eq!(completion.op, op);
            assert!(completion.result >= 0, "{completion:?}");
            assert!(completed.insert(completion.token.slot()), "once each");
        }
        assert!(completed.len() > before, "none came within ten seconds");
    }
}

#[test]
fn completions_beyond_the_queue_are_not_lost() {
    const SOCKETS: u32 = 100;
    let (mut ring, _listener) = crowded(SOCKETS);
    complete_on_each(&mut ring, OpCode::Connect, SOCKETS);
    // All at once: each polls for room that is there.
    for socket in 0..SOCKETS {
        let socket = Socket(socket);
        ring.push(Op::Writable { socket }, Token::new(0, socket.0));
    }
    complete_on_each(&mut ring, OpCode::Writable, SOCKETS);
}

/// As `SimRing` has it. (From Linux 6.2 to 6.5 the accept goes on.)
#[test]
fn a_multishot_accept_ends_with_the_completion_that_does_not_fit() {
    const CLIENTS: usize = 100;
    const COMPLETIONS: u32 = 8;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let setup = Setup {
        submissions: 8,
        completions: COMPLETIONS,
        sockets: CLIENTS as u32,
        buffers: 1,
        buffer_size: 256,
    };
    let mut ring = Uring::new(&setup, Some(listener.into())).expect("a ring");
    let _clients: Vec<_> = (0..CLIENTS)
        .map(|_| TcpStream::connect(address).expect("the backlog has room"))
        .collect();
    let (mut accepted, mut is_armed) = (HashSet::new(), false);
    while accepted.len() < CLIENTS {
        if !std::mem::replace(&mut is_armed, true) {
            let accept = Op::Accept {
                multishot: true,
                addressed: false,
            };
            ring.push(accept, Token::new(0, 0));
        }
        ring.enter(Wait::For(Duration::from_secs(10)))
            .expect("the ring works");
        let before = accepted.len();
        while let Some(completion) = ring.reap() {
            assert!(is_armed, "the last one is the last");
            is_armed = completion.more;
            assert!(accepted.insert(completion.result), "each is told once");
        }
        let count = accepted.len() - before;
        assert!(count > 0, "none came within ten seconds");
        assert!(
            is_armed || count == COMPLETIONS as usize + 1,
            "it ended with number {count}"
        );
    }
}

#[test]
fn a_ring_wakes_another_that_waits_on_another_thread() {
    let mut one = Uring::new(&Setup::default(), None).expect("a ring");
    let (wakers, waker) = std::sync::mpsc::channel();
    let sleeper = std::thread::spawn(move || {
        let mut ring = Uring::new(&Setup::default(), None).expect("a ring");
        wakers.send(ring.waker()).expect("somebody wants it");
        ring.enter(Wait::For(Duration::from_secs(20)))
            .expect("the ring works");
        ring.reap().map(|completion| completion.op)
    });
    let waker = waker.recv().expect("a waker");
    one.push(Op::Wake { waker }, Token::new(0, 7));
    one.enter(Wait::No).expect("the ring works");
    assert_eq!(
        sleeper.join().expect("it does not panic"),
        Some(OpCode::Woken)
    );
    // Nobody is there any more, of which the ring tells.
    let gone = {
        let ring = Uring::new(&Setup::default(), None).expect("a ring");
        ring.waker()
    };
    one.push(Op::Wake { waker: gone }, Token::new(0, 8));
    one.enter(Wait::No).expect("the ring works");
    while let Some(completion) = one.reap() {
        assert_eq!(completion.op, OpCode::Wake);
    }
}

#[test]
fn a_ring_hands_a_socket_over_to_another_that_waits_on_another_thread() {
    use std::io::{Read, Write};
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let setup = Setup {
        sockets: 1,
        ..Setup::default()
    };
    let mut one = Uring::new(&setup, Some(listener.into())).expect("a ring");
    let (wakers, waker) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || {
        let setup = Setup {
            sockets: 1,
            ..Setup::default()
        };
        let mut ring = Uring::new(&setup, None).expect("a ring");
        wakers.send(ring.waker()).expect("somebody wants it");
        ring.enter(Wait::For(Duration::from_secs(20)))
            .expect("the ring works");
        let arrived = ring.reap().expect("a socket has come");
        assert_eq!(arrived.token, Token::new(0, 5));
        let socket = Socket(arrived.result as u32);
        let receive = Op::Receive {
            socket,
            multishot: false,
        };
        ring.push(receive, Token::new(0, 0));
        ring.enter(Wait::For(Duration::from_secs(20)))
            .expect("the ring works");
        let received = ring.reap().expect("something was said");
        assert_eq!(received.buffer.as_deref(), Some(&b"hello"[..]));
        // It has no other place, and keeps this one until the end.
        let _ = ended.recv();
        assert!(ring.reap().is_none(), "nobody else has come");
    });
    let waker = waker.recv().expect("a waker");
    let mut hand_over = |waker| {
        let mut client = TcpStream::connect(address).expect("the backlog has room");
        let accept = Op::Accept {
            multishot: false,
            addressed: false,
        };
        let arrival = Token::new(0, 5);
        let (socket, token) = (Socket(0), Token::new(0, 0));
        let mut complete = |op, token: Token| {
            one.push(op, token);
            one.enter(Wait::For(Duration::from_secs(10)))
                .expect("the ring works");
            let completion = one.reap().expect("it is done");
            assert_eq!(completion.token, token);
            assert!(one.reap().is_none(), "it is done once");
            completion.result
        };
        let accepted = complete(accept, Token::new(0, 1));
        assert_eq!(accepted, 0, "the only place is free");
        let hand_over = Op::HandOver {
            socket,
            waker,
            arrival,
        };
        let result = complete(hand_over, token);
        if result < 0 {
            let close = Op::Close { socket };
            assert_eq!(complete(close, Token::new(0, 0)), 0);
            assert!(!matches!(client.read(&mut [0]), Ok(1..)), "it is gone");
        } else {
            client.write_all(b"hello").expect("it is open");
        }
        result
    };
    assert_eq!(hand_over(waker.clone()), 0);
    // The place here is free; the one there is not.
    assert!(hand_over(waker.clone()) < 0);
    drop(end);
    other.join().expect("it does not panic");
    // Nobody is there any more.
    assert!(hand_over(waker) < 0);
}

#[test]
fn the_kernel_tells_how_long_a_peer_has_been_quiet() {
    use std::io::Write;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let mut ring = Uring::new(&Setup::default(), None).expect("a ring");
    let connect = Op::Connect {
        socket: Socket(3),
        peer: listener.local_addr().expect("it is bound"),
    };
    ring.push(connect, Token::new(0, 3));
    ring.enter(Wait::For(Duration::from_secs(10)))
        .expect("the ring works");
    assert!(ring.reap().is_some_and(|completion| completion.result >= 0));
    let (mut peer, _) = listener.accept().expect("it has connected");
    peer.write_all(b"heard, though nobody reads it")
        .expect("it takes a few bytes");
    let mut clock = Uring::new(&Setup::default(), None).expect("a ring");
    let mut pass = |millis| {
        clock
            .enter(Wait::For(Duration::from_millis(millis)))
            .expect("the ring works");
    };
    pass(100);
    ring.push(Op::QueryTcpInfo { socket: Socket(3) }, Token::new(0, 3));
    ring.enter(Wait::For(Duration::from_secs(10)))
        .expect("the ring works");
    // Whoever drives the ring has taken the time, and is held up: that is not the peer's silence.
    pass(5000);
    let completion = ring.reap().expect("it is told");
    assert_eq!(completion.op, OpCode::QueryTcpInfo);
    // Before Linux 6.8 there is no answer.
    assert!(
        (80..4000).contains(&completion.result) || completion.result == -libc::EOPNOTSUPP,
        "{completion:?}"
    );
}

#[test]
fn what_arrives_is_received_when_the_ring_is_entered_and_not_when_its_queue_is_full() {
    use std::io::Write;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let setup = Setup {
        submissions: 8,
        ..Setup::default()
    };
    let mut ring = Uring::new(&setup, None).expect("a ring");
    let socket = Socket(0);
    let connect = Op::Connect {
        socket,
        peer: listener.local_addr().expect("it is bound"),
    };
    ring.push(connect, Token::new(0, 0));
    ring.enter(Wait::For(Duration::from_secs(10)))
        .expect("the ring works");
    assert!(ring.reap().is_some_and(|completion| completion.result >= 0));
    let (mut peer, _) = listener.accept().expect("it has connected");
    ring.push(
        Op::Receive {
            socket,
            multishot: true,
        },
        Token::new(0, 0),
    );
    ring.enter(Wait::No).expect("the ring works");
    // Over loopback, what is written has arrived.
    peer.write_all(b"hello").expect("it takes a few bytes");
    for slot in 0..100 {
        let token = Token::new(0, slot);
        ring.push(Op::Writable { socket }, token);
    }
    while let Some(completion) = ring.reap() {
        assert_eq!(completion.op, OpCode::Writable);
    }
    ring.enter(Wait::No).expect("the ring works");
    let received =
        std::iter::from_fn(|| ring.reap()).find(|completion| completion.op == OpCode::Receive);
    assert!(received.is_some_and(|completion| completion.result == 5));
}

/// A ring whose socket 0 is connected, and the peer.
fn connected() -> (Uring, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let mut ring = Uring::new(&Setup::default(), None).expect("a ring");
    let connect = Op::Connect {
        socket: Socket(0),
        peer: listener.local_addr().expect("it is bound"),
    };
    ring.push(connect, Token::new(0, 0));
    let connected = next(&mut ring);
    assert!(connected.result >= 0, "{connected:?}");
    let (peer, _) = listener.accept().expect("it has connected");
    (ring, peer)
}

fn next(ring: &mut Uring) -> Completion {
    ring.enter(Wait::For(Duration::from_secs(10)))
        .expect("the ring works");
    ring.reap().expect("it completes within ten seconds")
}

fn fill(ring: &mut Uring, buffer: BytesMut, limit: usize, gather: bool) -> Token {
    let token = Token::new(0, 0);
    let socket = Socket(0);
    let fill = Op::Fill {
        socket,
        buffer,
        limit,
        gather,
    };
    ring.push(fill, token);
    token
}

#[test]
fn bytes_are_received_behind_what_a_buffer_holds_and_no_more_than_asked_for() {
    use std::io::Write;
    let (mut ring, mut peer) = connected();
    let mut buffer = BytesMut::with_capacity(100);
    buffer.extend_from_slice(b"> ");
    let place = buffer.as_ptr();
    peer.write_all(b"hello, world")
        .expect("it takes a few bytes");
    for (limit, received, expected) in [(5, 5, "> hello"), (98 - 5, 7, "> hello, world")] {
        let token = fill(&mut ring, buffer, limit, false);
        let completion = next(&mut ring);
        assert_eq!((completion.token, completion.result), (token, received));
        assert!(!completion.more && completion.buffer.is_none());
        buffer = ring.take_filled(token);
        assert_eq!((&*buffer, buffer.as_ptr()), (expected.as_bytes(), place));
    }
    // Nothing is there; what ends the connection ends the receive.
    let token = fill(&mut ring, buffer, 10, false);
    ring.enter(Wait::No).expect("the ring works");
    assert!(ring.reap().is_none());
    let reset = Op::Reset { socket: Socket(0) };
    ring.push(reset, Token::new(0, 0));
    let completion = next(&mut ring);
    assert_eq!(completion.token, token);
    assert!(completion.result <= 0, "{completion:?}");
    assert_eq!(&*ring.take_filled(token), b"> hello, world");
}

#[test]
fn the_peers_end_is_told_by_a_receive_of_nothing() {
    let (mut ring, peer) = connected();
    let token = fill(&mut ring, BytesMut::with_capacity(100), 100, false);
    ring.enter(Wait::No).expect("the ring works");
    drop(peer);
    assert_eq!(next(&mut ring).result, 0);
    assert!(ring.take_filled(token).is_empty());
}

#[test]
fn a_ring_may_go_while_it_receives() {
    use std::io::Write;
    let (mut ring, mut peer) = connected();
    // Who is to wake it holds a descriptor of the ring.
    let _bell = ring.waker();
    fill(&mut ring, BytesMut::with_capacity(100), 100, false);
    ring.enter(Wait::No).expect("the ring works");
    drop(ring);
    // To nobody.
    let _ = peer.write_all(b"hello");
}

#[test]
#[should_panic(expected = "the kernel may be writing to it")]
fn a_buffer_is_not_given_back_before_its_receive_has_completed() {
    let (mut ring, _peer) = connected();
    let token = fill(&mut ring, BytesMut::with_capacity(100), 100, false);
    ring.enter(Wait::No).expect("the ring works");
    let _ = ring.take_filled(token);
}

#[test]
fn a_receive_that_is_not_multishot_ends_with_the_first_bytes() {
    use std::io::Write;
    let (mut ring, mut peer) = connected();
    let receive = Op::Receive {
        socket: Socket(0),
        multishot: false,
    };
    ring.push(receive, Token::new(0, 0));
    ring.enter(Wait::No).expect("the ring works");
    peer.write_all(b"hello").expect("it takes a few bytes");
    let completion = next(&mut ring);
    assert!(!completion.more);
    let buffer = completion.buffer.expect("bytes lie in a buffer");
    assert_eq!(&*buffer, b"hello");
    drop(buffer);
}

#[test]
fn what_gathers_waits_for_much_but_not_for_long() {
    use std::io::Write;
    const LIMIT: usize = 1000;
    let (mut ring, mut peer) = connected();
    let mut write = |bytes: &[u8]| peer.write_all(bytes).expect("it takes a few bytes");

    write(&[1; 10]);
    let token = fill(&mut ring, BytesMut::with_capacity(LIMIT), LIMIT, true);
    let completion = next(&mut ring);
    assert_eq!(
        (completion.token, completion.result),
        (token, -libc::ECANCELED)
    );
    let buffer = ring.take_filled(token);
    assert!(buffer.is_empty());
    // What is there is not lost.
    fill(&mut ring, buffer, LIMIT, false);
    assert_eq!(next(&mut ring).result, 10);

    // The rest comes in two parts, and is received as one.
    let mut filled = ring.take_filled(token);
    fill(&mut ring, filled, LIMIT - 10, true);
    write(&[2; 500]);
    ring.enter(Wait::No).expect("the ring works");
    write(&[3; LIMIT - 510]);
    loop {
        let completion = next(&mut ring);
        filled = ring.take_filled(token);
        if completion.result != -libc::ECANCELED {
            assert_eq!(completion.result, LIMIT as i32 - 10);
            break;
        }
        // The machine stood still between the two.
        fill(&mut ring, filled, LIMIT - 10, true);
    }
    assert_eq!(filled[..10], [1; 10]);
    assert_eq!(filled[10..510], [2; 500]);
    assert_eq!(filled[510..], [3; LIMIT - 510]);

    // What is received elsewhere is not waited for.
    let receive = Op::Receive {
        socket: Socket(0),
        multishot: true,
    };
    ring.push(receive, Token::new(0, 0));
    ring.enter(Wait::No).expect("the ring works");
    write(&[4]);
    assert_eq!(next(&mut ring).result, 1);
    assert!(ring.reap().is_none(), "nothing else completes");
}

#[test]
fn what_gathers_ends_when_the_peer_has_finished() {
    use std::io::Write;
    let (mut ring, mut peer) = connected();
    peer.write_all(&[1; 10]).expect("it takes a few bytes");
    drop(peer);
    let token = fill(&mut ring, BytesMut::with_capacity(100), 100, true);
    assert_eq!(next(&mut ring).result, 10);
    assert_eq!(ring.take_filled(token), [1; 10][..]);
}

/// A connect that follows a full submission queue used to be given the address of the one after it.
#[test]
fn connects_around_a_full_submission_queue_reach_their_own_peers() {
    const SUBMISSIONS: u32 = 8;
    let listener = || TcpListener::bind("127.0.0.1:0").expect("a port is free");
    for queued in 0..SUBMISSIONS {
        let setup = Setup {
            submissions: SUBMISSIONS,
            completions: 64,
            sockets: 16,
            buffers: 1,
            buffer_size: 256,
        };
        let mut ring = Uring::new(&setup, None).expect("a ring");
        let listeners = [listener(), listener(), listener()];
        for _ in 0..queued {
            // There is nothing to cancel, which needs no socket.
            let (kind, target) = (OpCode::Accept, Token::new(0, 0));
            ring.push(Op::Cancel { kind, target }, target);
        }
        for (socket, listener) in (0..).zip(&listeners) {
            let connect = Op::Connect {
                socket: Socket(socket),
                peer: listener.local_addr().expect("it is bound"),
            };
            ring.push(connect, Token::new(0, socket));
        }
        let mut connected = 0;
        while connected < listeners.len() {
            let completion = next(&mut ring);
            if completion.op == OpCode::Connect {
                assert_eq!(completion.result, 0);
                connected += 1;
            }
        }
        for listener in &listeners {
            listener.set_nonblocking(true).expect("an open socket");
            listener.accept().expect("its own client has connected");
            listener.accept().expect_err("and no other");
        }
    }
}

#[test]
fn short_sends_beyond_the_queue_are_all_told_before_none_is() {
    const SOCKETS: u32 = 50;
    /// More than any socket takes at once.
    static BYTES: [u8; 64 << 20] = [0; 64 << 20];
    let (mut ring, _listener) = crowded(SOCKETS);
    complete_on_each(&mut ring, OpCode::Connect, SOCKETS);
    for socket in 0..SOCKETS {
        let send = Op::Send {
            socket: Socket(socket),
            // SAFETY: they are there for ever.
            data: unsafe { Outbound::bytes(&BYTES) },
            mode: SendMode::Silent,
            finish: false,
        };
        ring.push(send, Token::new(0, socket));
    }
    ring.enter(Wait::No).expect("the ring works");
    let mut short = HashSet::new();
    while let Some(completion) = ring.reap() {
        assert_eq!(completion.op, OpCode::Send);
        assert!((0..BYTES.len() as i32).contains(&completion.result));
        assert!(short.insert(completion.token.slot()), "once each");
    }
    assert_eq!(short.len(), SOCKETS as usize);
}

#[test]
fn what_is_sent_whole_is_the_rings_until_then() {
    use std::io::Read;
    const LENGTH: usize = 32 << 20;
    let (mut ring, mut peer) = connected();
    let reader = std::thread::spawn(move || {
        let mut bytes = vec![0; LENGTH];
        peer.read_exact(&mut bytes).expect("all of it comes");
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
    assert!(reader.join().expect("it does not panic"));
}

#[test]
fn a_setup_that_cannot_be_is_an_error() {
    for (buffers, buffer_size) in [
        (0, 4096),
        (3, 4096),
        (1 << 15 | 1, 4096),
        (4, 0),
        (4, u32::MAX),
    ] {
        let setup = Setup {
            buffers,
            buffer_size,
            ..Setup::default()
        };
        let made = Uring::new(&setup, None);
        // Four gigabytes may be there to be mapped.
        assert!(made.is_err() || buffer_size == u32::MAX, "{setup:?}");
    }
}
