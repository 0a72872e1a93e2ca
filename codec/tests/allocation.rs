//! Allocations: none for a message in steady state, and none for an announced length.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{SEED, connect, masked, server};
use tidewheel_codec::deflate::Deflate;
use tidewheel_codec::frame::Opcode;
use tidewheel_codec::{Connection, Endpoint, Event, Reply, Time};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, with counters for each thread.
struct Counting;

impl Counting {
    fn count(size: usize) {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        BYTES.set(BYTES.get() + size as u64);
    }
}

// SAFETY: every call is passed on unchanged, and counting accesses no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: the caller guarantees the conditions of the same method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller guarantees the conditions of the same method.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count(size);
        // SAFETY: the caller guarantees the conditions of the same method.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Returns the number of allocations in `body`, and their bytes.
fn allocations_of(body: impl FnOnce()) -> (u64, u64) {
    let before = (ALLOCATIONS.get(), BYTES.get());
    body();
    (ALLOCATIONS.get() - before.0, BYTES.get() - before.1)
}

/// Receives `bytes` in pieces of `size` into `buffer`, and drops the replies, as after sending. Returns the number of
/// messages.
fn receive(
    connection: &mut Connection,
    endpoint: &mut Endpoint,
    bytes: &[u8],
    size: usize,
    buffer: &mut [u8],
    out: &mut Vec<u8>,
) -> usize {
    let mut messages = 0;
    out.clear();
    for piece in bytes.chunks(size) {
        let buffer = &mut buffer[..piece.len()];
        buffer.copy_from_slice(piece);
        let mut input = connection.receive(buffer, Time::from_millis(1));
        while let Some(event) = connection.poll_event(endpoint, &mut input, out) {
            if let Event::Message(message) = event {
                messages += 1;
                match message.into_frame() {
                    Reply::Borrowed(frame) => out.extend_from_slice(frame),
                    Reply::Owned(frame) => out.extend_from_slice(&frame),
                }
            }
        }
    }
    messages
}

#[test]
fn a_message_needs_no_allocation_in_steady_state() {
    let text = "κόσμε, twenty bytes or more. ".repeat(1000);
    let small = masked(0x81, &text.as_bytes()[..30]);
    let large = masked(0x81, text.as_bytes());
    let fragmented = [
        masked(0x02, b"one"),
        masked(0x89, b"ping"),
        masked(0x00, b"two"),
        masked(0x80, b"3"),
    ]
    .concat();
    let mut endpoint = Endpoint::with_seed(server(), SEED).unwrap();
    let mut connection = Connection::new(Time::from_millis(0), 0);
    let (mut buffer, mut out) = (vec![0; 64 << 10], Vec::with_capacity(64 << 10));
    for (name, bytes, size) in [
        ("in place", &small, 64 << 10),
        ("large, in place", &large, 64 << 10),
        ("over two buffers", &small, 20),
        ("over many buffers", &large, 4096),
        ("in fragments", &fragmented, 64 << 10),
        ("in fragments over buffers", &fragmented, 9),
    ] {
        let mut round = || {
            receive(
                &mut connection,
                &mut endpoint,
                bytes,
                size,
                &mut buffer,
                &mut out,
            )
        };
        for _ in 0..4 {
            round();
        }
        let mut messages = 0;
        let (allocations, _) = allocations_of(|| messages = (0..1000).map(|_| round()).sum());
        assert_eq!(messages, 1000, "{name}");
        // The payload of a control frame that spans buffers is allocated. Such frames are rare.
        let split_pings = if size == 9 { 1000 } else { 0 };
        assert!(
            allocations <= split_pings,
            "{name}: {allocations} allocations for 1000 messages"
        );
    }
}

#[test]
fn a_compressed_message_needs_no_allocation_in_steady_state() {
    let mut config = server();
    config.deflate = Some(Deflate::default());
    let mut endpoint = Endpoint::with_seed(config, SEED).unwrap();
    let mut connection = connect(&endpoint, Time::from_millis(0));
    let (mut buffer, mut out) = (vec![0; 64 << 10], Vec::with_capacity(64 << 10));
    let text = "κόσμε, twenty bytes or more. ".repeat(100);
    let frame = {
        let mut frame = endpoint
            .encode_compressed(Opcode::Text, text.as_bytes())
            .to_vec();
        let payload = frame.split_off(2);
        assert!(payload.len() < 126);
        masked(frame[0], &payload)
    };
    for size in [64 << 10, 20] {
        let mut round = || {
            let messages = receive(
                &mut connection,
                &mut endpoint,
                &frame,
                size,
                &mut buffer,
                &mut out,
            );
            out.clear();
            connection
                .send_text(&mut endpoint, &text, &mut out)
                .unwrap();
            assert!(out.len() < 200, "the message is compressed");
            messages
        };
        for _ in 0..4 {
            round();
        }
        let mut messages = 0;
        let (allocations, _) = allocations_of(|| messages = (0..100).map(|_| round()).sum());
        assert_eq!((messages, allocations), (100, 0), "in pieces of {size}");
    }
}

#[test]
fn streams_with_context_takeover_take_at_most_the_reserved_memory() {
    for window_bits in 9..=15 {
        let mut deflate = Deflate::default();
        deflate.context_takeover = true;
        deflate.max_window_bits = window_bits;
        deflate.threshold = 0;
        let mut config = server();
        config.deflate = Some(deflate);
        let mut endpoint = Endpoint::with_seed(config, SEED).unwrap();
        let mut connection = connect(&endpoint, Time::from_millis(0));
        let reserved = endpoint.takeover_bytes() as u64;
        let mut out = Vec::with_capacity(64 << 10);
        let frame = masked(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00");
        let mut buffer = [0; 100];
        let (_, bytes) = allocations_of(|| {
            connection
                .send_binary(&mut endpoint, &[7; 40_000], &mut out)
                .unwrap();
            out.clear();
            let size = frame.len();
            receive(
                &mut connection,
                &mut endpoint,
                &frame,
                size,
                &mut buffer,
                &mut out,
            );
        });
        assert!(
            bytes <= reserved,
            "{window_bits} bits: {bytes} bytes are more than the reserved {reserved}"
        );
        assert!(
            bytes * 10 > reserved * 8,
            "{window_bits} bits: {bytes} bytes are below 80% of the reserved {reserved}"
        );
    }
}

#[test]
fn an_idle_connection_has_no_heap_memory() {
    let mut endpoint = Endpoint::with_seed(server(), SEED).unwrap();
    let mut connections = Vec::with_capacity(1000);
    let mut out = Vec::with_capacity(1 << 10);
    let (allocations, _) = allocations_of(|| {
        for _ in 0..1000 {
            let mut connection = Connection::new(Time::from_millis(0), 0);
            out.clear();
            connection.handle_timeout(&mut endpoint, &mut out, Time::from_millis(20_000));
            assert_eq!(out.len(), 6, "a ping");
            let mut pong = *b"\x8a\x84\0\0\0\0\0\0\0\0";
            let mut input = connection.receive(&mut pong, Time::from_millis(20_001));
            let event = connection.poll_event(&mut endpoint, &mut input, &mut out);
            assert!(matches!(event, Some(Event::Pong(_))));
            connections.push(connection);
        }
    });
    assert_eq!(allocations, 0);
}

#[test]
fn an_announced_length_is_not_allocated() {
    let mut config = server();
    (config.max_frame_size, config.max_message_size) = (usize::MAX, usize::MAX);
    let mut endpoint = Endpoint::with_seed(config, SEED).unwrap();
    let mut connection = Connection::new(Time::from_millis(0), 0);
    let mut out = Vec::new();
    // 2^63 - 1 bytes are announced, and 10 arrive.
    let mut bytes = *b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x000123456789";
    let (_, allocated) = allocations_of(|| {
        let mut input = connection.receive(&mut bytes, Time::from_millis(1));
        assert!(
            connection
                .poll_event(&mut endpoint, &mut input, &mut out)
                .is_none()
        );
    });
    assert!(connection.is_open());
    assert!(allocated < 1024, "{allocated} bytes were allocated");
}
