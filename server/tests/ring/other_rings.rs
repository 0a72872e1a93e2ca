//! Operations on another ring.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    time::Duration,
};

use tidewheel::ring::{Op, OpCode, Ring, Setup, Socket, Token, Uring, Wait, Waker};

#[test]
fn op_wake_wakes_a_ring_that_waits_on_another_thread() {
    let mut one = Uring::new(&Setup::default(), None).expect("io_uring is available");
    let (wakers, waker) = mpsc::channel();
    let sleeper = std::thread::spawn(move || {
        let mut ring = Uring::new(&Setup::default(), None).expect("io_uring is available");
        wakers
            .send(ring.waker())
            .expect("the test waits for the waker");
        ring.enter(Wait::For(Duration::from_secs(20)))
            .expect("enter succeeds");
        ring.reap().map(|completion| completion.op)
    });
    let waker = waker.recv().expect("the thread sends its waker");
    one.push(Op::Wake { waker }, Token::new(0, 7));
    one.enter(Wait::No).expect("enter succeeds");
    assert_eq!(
        sleeper.join().expect("the thread does not panic"),
        Some(OpCode::Woken)
    );
    // The other ring was dropped: the operation may fail, but with no other completion.
    let dropped = {
        let ring = Uring::new(&Setup::default(), None).expect("io_uring is available");
        ring.waker()
    };
    one.push(Op::Wake { waker: dropped }, Token::new(0, 8));
    one.enter(Wait::No).expect("enter succeeds");
    while let Some(completion) = one.reap() {
        assert_eq!(completion.op, OpCode::Wake);
    }
}

/// A setup with a table of one descriptor.
fn one_socket() -> Setup {
    let mut setup = Setup::default();
    setup.sockets = 1;
    setup
}

/// The token of the `Arrive` completions.
const ARRIVAL: Token = Token::new(0, 5);

/// Waits for a socket of another ring, receives `hello` from it, and keeps it open until `ended`.
fn receive_hello(ring: &mut Uring, ended: &mpsc::Receiver<()>) {
    ring.enter(Wait::For(Duration::from_secs(20)))
        .expect("enter succeeds");
    let arrived = ring.reap().expect("a socket arrives");
    assert_eq!(arrived.token, ARRIVAL);
    let receive = Op::Receive {
        socket: Socket(arrived.result as u32),
        multishot: false,
    };
    ring.push(receive, Token::new(0, 0));
    ring.enter(Wait::For(Duration::from_secs(20)))
        .expect("enter succeeds");
    let received = ring.reap().expect("bytes arrive");
    assert_eq!(received.buffer.as_deref(), Some(&b"hello"[..]));
    let _ = ended.recv();
    assert!(ring.reap().is_none(), "no other socket arrives");
}

/// Accepts a client, and hands it over; returns the result. After a success the client sends `hello`.
fn accept_and_hand_over(ring: &mut Uring, address: SocketAddr, waker: Waker) -> i32 {
    let mut client = TcpStream::connect(address).expect("the backlog has room");
    let mut complete = |op, token: Token| {
        ring.push(op, token);
        ring.enter(Wait::For(Duration::from_secs(10)))
            .expect("enter succeeds");
        let completion = ring.reap().expect("the operation completes");
        assert_eq!(completion.token, token);
        assert!(ring.reap().is_none(), "the operation completes once");
        completion.result
    };
    let accepted = complete(Op::Accept, Token::new(0, 1));
    assert_eq!(accepted, 0, "the only descriptor is free");
    let socket = Socket(0);
    let hand_over = Op::HandOver {
        socket,
        waker,
        arrival: ARRIVAL,
    };
    let result = complete(hand_over, Token::new(0, 0));
    if result < 0 {
        assert_eq!(complete(Op::Close { socket }, Token::new(0, 0)), 0);
        let read = client.read(&mut [0]);
        assert!(!matches!(read, Ok(1..)), "the connection is closed");
    } else {
        client.write_all(b"hello").expect("the connection is open");
    }
    result
}

#[test]
fn op_hand_over_moves_a_socket_to_a_ring_that_waits_on_another_thread() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind to port 0");
    let address = listener.local_addr().expect("the listener is bound");
    let mut ring = Uring::new(&one_socket(), Some(listener.into())).expect("io_uring is available");
    let (wakers, waker) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    let other = std::thread::spawn(move || {
        let mut ring = Uring::new(&one_socket(), None).expect("io_uring is available");
        wakers
            .send(ring.waker())
            .expect("the test waits for the waker");
        receive_hello(&mut ring, &ended);
    });
    let waker = waker.recv().expect("the thread sends its waker");
    assert_eq!(
        accept_and_hand_over(&mut ring, address, waker.clone()),
        0,
        "the other ring has a free descriptor"
    );
    assert!(
        accept_and_hand_over(&mut ring, address, waker.clone()) < 0,
        "the table of the other ring is full"
    );
    drop(end);
    other.join().expect("the thread does not panic");
    assert!(
        accept_and_hand_over(&mut ring, address, waker) < 0,
        "the other ring was dropped"
    );
}
