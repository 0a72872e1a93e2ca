//! Full submission queues and completion queues.

use std::{
    collections::HashSet,
    io::Write,
    net::{TcpListener, TcpStream},
    time::Duration,
};

use tidewheel::ring::{Op, OpCode, Outbound, Ring, SendMode, Setup, Socket, Token, Uring, Wait};

use super::next;

/// A ring with queues of 8 entries, which connects each of its sockets, and the listener.
fn connecting(sockets: u32) -> (Uring, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind to port 0");
    let mut setup = Setup::default();
    setup.submissions = 8;
    setup.completions = 8;
    setup.sockets = sockets;
    setup.buffers = 1;
    setup.buffer_size = 256;
    let mut ring = Uring::new(&setup, None).expect("io_uring is available");
    for socket in 0..sockets {
        let connect = Op::Connect {
            socket: Socket(socket),
            peer: listener.local_addr().expect("the listener is bound"),
        };
        ring.push(connect, Token::new(0, socket));
    }
    (ring, listener)
}

/// Waits until the operation `op` has completed on each socket, once and successfully.
fn complete_on_each(ring: &mut Uring, op: OpCode, sockets: u32) {
    let mut completed = HashSet::new();
    while completed.len() < sockets as usize {
        ring.enter(Wait::For(Duration::from_secs(10)))
            .expect("enter succeeds");
        let before = completed.len();
        while let Some(completion) = ring.reap() {
            assert_eq!(completion.op, op);
            assert!(completion.result >= 0, "{completion:?}");
            assert!(
                completed.insert(completion.token.slot()),
                "each operation completes once"
            );
        }
        assert!(completed.len() > before, "no completion within ten seconds");
    }
}

#[test]
fn completions_beyond_the_queue_are_not_lost() {
    const SOCKETS: u32 = 100;
    let (mut ring, _listener) = connecting(SOCKETS);
    complete_on_each(&mut ring, OpCode::Connect, SOCKETS);
    // Every socket is writable, so all of these complete on submission.
    for socket in 0..SOCKETS {
        let socket = Socket(socket);
        ring.push(Op::Writable { socket }, Token::new(0, socket.0));
    }
    complete_on_each(&mut ring, OpCode::Writable, SOCKETS);
}

#[test]
fn accepts_beyond_the_queue_are_not_lost_and_report_the_address_of_their_peer() {
    const CLIENTS: u32 = 64;
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind to port 0");
    let address = listener.local_addr().expect("the listener is bound");
    let mut setup = Setup::default();
    setup.submissions = 8;
    setup.completions = 8;
    setup.sockets = CLIENTS;
    setup.buffers = 1;
    setup.buffer_size = 256;
    let mut ring = Uring::new(&setup, Some(listener.into())).expect("io_uring is available");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| TcpStream::connect(address).expect("the backlog has room"))
        .collect();
    for index in 0..CLIENTS {
        ring.push(Op::Accept, Token::new(index, 0));
    }
    let (mut sockets, mut peers) = (HashSet::new(), HashSet::new());
    while sockets.len() < clients.len() {
        ring.enter(Wait::For(Duration::from_secs(10)))
            .expect("enter succeeds");
        let before = sockets.len();
        while let Some(completion) = ring.reap() {
            assert!(completion.result >= 0 && !completion.more);
            sockets.insert(completion.result);
            peers.insert(ring.peer(completion.token).expect("an IPv4 address"));
        }
        assert!(sockets.len() > before, "no completion within ten seconds");
    }
    let locals = clients.iter().map(|client| client.local_addr());
    let locals: Result<HashSet<_>, _> = locals.collect();
    assert_eq!(peers, locals.expect("the clients are connected"));
}

#[test]
fn bytes_are_received_when_the_ring_is_entered_and_not_when_a_full_queue_is_submitted() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind to port 0");
    let mut setup = Setup::default();
    setup.submissions = 8;
    let mut ring = Uring::new(&setup, None).expect("io_uring is available");
    let socket = Socket(0);
    let connect = Op::Connect {
        socket,
        peer: listener.local_addr().expect("the listener is bound"),
    };
    ring.push(connect, Token::new(0, 0));
    ring.enter(Wait::For(Duration::from_secs(10)))
        .expect("enter succeeds");
    assert!(ring.reap().is_some_and(|completion| completion.result >= 0));
    let (mut peer, _) = listener.accept().expect("the client has connected");
    ring.push(
        Op::Receive {
            socket,
            multishot: true,
        },
        Token::new(0, 0),
    );
    ring.enter(Wait::No).expect("enter succeeds");
    // Over loopback, written bytes have arrived when the call returns.
    peer.write_all(b"hello").expect("the socket has room");
    for slot in 0..100 {
        let token = Token::new(0, slot);
        ring.push(Op::Writable { socket }, token);
    }
    while let Some(completion) = ring.reap() {
        assert_eq!(completion.op, OpCode::Writable);
    }
    ring.enter(Wait::No).expect("enter succeeds");
    let received =
        std::iter::from_fn(|| ring.reap()).find(|completion| completion.op == OpCode::Receive);
    assert!(received.is_some_and(|completion| completion.result == 5));
}

/// A connect behind a full submission queue must not use the address of the next connect.
#[test]
fn connects_around_a_full_submission_queue_reach_their_own_peers() {
    const SUBMISSIONS: u32 = 8;
    let listener = || TcpListener::bind("127.0.0.1:0").expect("bind to port 0");
    for queued in 0..SUBMISSIONS {
        let mut setup = Setup::default();
        setup.submissions = SUBMISSIONS;
        setup.completions = 64;
        setup.sockets = 16;
        setup.buffers = 1;
        setup.buffer_size = 256;
        let mut ring = Uring::new(&setup, None).expect("io_uring is available");
        let listeners = [listener(), listener(), listener()];
        for _ in 0..queued {
            // A Cancel without a target takes an entry, and needs no socket.
            let (kind, target) = (OpCode::Accept, Token::new(0, 0));
            ring.push(Op::Cancel { kind, target }, target);
        }
        for (socket, listener) in (0..).zip(&listeners) {
            let connect = Op::Connect {
                socket: Socket(socket),
                peer: listener.local_addr().expect("the listener is bound"),
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
            listener
                .set_nonblocking(true)
                .expect("the listener is open");
            listener.accept().expect("one client has connected");
            listener
                .accept()
                .expect_err("no other client has connected");
        }
    }
}

#[test]
fn all_short_sends_beyond_the_queue_are_reaped_before_reap_returns_none() {
    const SOCKETS: u32 = 50;
    /// More bytes than any socket takes at once.
    static BYTES: [u8; 64 << 20] = [0; 64 << 20];
    let (mut ring, _listener) = connecting(SOCKETS);
    complete_on_each(&mut ring, OpCode::Connect, SOCKETS);
    for socket in 0..SOCKETS {
        let send = Op::Send {
            socket: Socket(socket),
            // SAFETY: the bytes are static.
            data: unsafe { Outbound::bytes(&BYTES) },
            mode: SendMode::Silent,
            finish: false,
        };
        ring.push(send, Token::new(0, socket));
    }
    ring.enter(Wait::No).expect("enter succeeds");
    let mut short = HashSet::new();
    while let Some(completion) = ring.reap() {
        assert_eq!(completion.op, OpCode::Send);
        assert!((0..BYTES.len() as i32).contains(&completion.result));
        assert!(
            short.insert(completion.token.slot()),
            "each operation completes once"
        );
    }
    assert_eq!(short.len(), SOCKETS as usize);
}
