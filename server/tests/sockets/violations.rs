//! Frames that break a rule, each with the code that it is answered with.

use std::time::Duration;

use crate::support::{
    SLACK,
    client::{
        BINARY, CLOSE, CONTINUATION, Client, End, FIN, PING, PONG, TEXT, binary, close, frame,
    },
    ms,
    process::Server,
    socket_table, wait,
};

const C: Duration = ms(500);

const PROTOCOL_ERROR: u16 = 1002;
const INVALID_PAYLOAD: u16 = 1007;
const TOO_BIG: u16 = 1009;

/// The client sends each of these on a connection of its own.
#[track_caller]
fn assert_violations(cases: &[(&str, u16, Vec<u8>)], cause: impl Fn(u16) -> &'static str) {
    let server = Server::start("--close-timeout 500ms");
    for (name, code, bytes) in cases {
        let mut client = Client::open(&server);
        client.send(bytes);
        let start = wait::now();
        let close = client.frame();
        assert_eq!(close.close_code(), *code, "{name}: {close:?}");
        assert_eq!(client.end(), End::Fin, "{name}");
        let elapsed = start.elapsed();
        assert!(elapsed < C, "{name} took {elapsed:?}");
        client.send(&frame(CLOSE, &close.payload[..2]));
        client.finish();
        server.until_empty(SLACK);
        assert!(client.stream.take_error().expect("an option").is_none());
    }
    for wanted in [PROTOCOL_ERROR, INVALID_PAYLOAD, TOO_BIG] {
        let of_kind = cases.iter().filter(|it| cause(it.1) == cause(wanted));
        let count = of_kind.count() as u64;
        assert_eq!(server.closes(cause(wanted)), count, "{}", cause(wanted));
    }
    assert_eq!(server.metric("tidewheel_deadline_resets_total", ""), 0);
}

fn cause(code: u16) -> &'static str {
    match code {
        TOO_BIG => "too_big",
        _ => "protocol_error",
    }
}

#[test]
fn r14_headers_that_break_a_rule() {
    let key = [0; 4];
    let lengthy = |first: u8, length: &[u8]| [&[first], length, &key].concat();
    let unfinished = frame(TEXT, b"begun");
    let mut cases = vec![
        ("unmasked text", PROTOCOL_ERROR, b"\x81\x05hello".to_vec()),
        (
            "unmasked close",
            PROTOCOL_ERROR,
            b"\x88\x02\x03\xE8".to_vec(),
        ),
        ("RSV1", PROTOCOL_ERROR, frame(0xC1, b"hello")),
        ("RSV2", PROTOCOL_ERROR, frame(0xA1, b"hello")),
        ("RSV3", PROTOCOL_ERROR, frame(0x91, b"hello")),
        ("RSV1 on a ping", PROTOCOL_ERROR, frame(0xC9, b"")),
        ("fragmented ping", PROTOCOL_ERROR, frame(0x09, b"")),
        ("fragmented pong", PROTOCOL_ERROR, frame(0x0A, b"")),
        ("fragmented close", PROTOCOL_ERROR, frame(0x08, b"\x03\xE8")),
        ("ping of 126 bytes", PROTOCOL_ERROR, frame(PING, &[0; 126])),
        (
            "pong of 65536 bytes",
            PROTOCOL_ERROR,
            frame(PONG, &[0; 65536]),
        ),
        (
            "close of 126 bytes",
            PROTOCOL_ERROR,
            close(1000, &"a".repeat(124)),
        ),
        (
            "continuation of nothing",
            PROTOCOL_ERROR,
            frame(CONTINUATION, b"a"),
        ),
        (
            "end of nothing",
            PROTOCOL_ERROR,
            frame(FIN | CONTINUATION, b"a"),
        ),
        (
            "text within a message",
            PROTOCOL_ERROR,
            [unfinished.as_slice(), &frame(FIN | TEXT, b"new")].concat(),
        ),
        (
            "binary within a message",
            PROTOCOL_ERROR,
            [unfinished.as_slice(), &frame(BINARY, b"new")].concat(),
        ),
        (
            "125 in 16 bits",
            PROTOCOL_ERROR,
            lengthy(FIN | BINARY, &[0xFE, 0, 125]),
        ),
        (
            "65535 in 64 bits",
            PROTOCOL_ERROR,
            lengthy(FIN | BINARY, &[0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]),
        ),
        (
            "top bit of 64",
            PROTOCOL_ERROR,
            lengthy(FIN | BINARY, &[0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        ),
    ];
    for opcode in (0x3..=0x7).chain(0xB..=0xF) {
        cases.push(("reserved opcode", PROTOCOL_ERROR, frame(FIN | opcode, b"")));
    }
    assert_violations(&cases, cause);
}

#[test]
fn r14_close_frames_that_break_a_rule() {
    let mut cases = vec![
        ("close of 1 byte", PROTOCOL_ERROR, frame(CLOSE, &[3])),
        (
            "reason that is no UTF-8",
            INVALID_PAYLOAD,
            frame(CLOSE, b"\x03\xE8\xFF\xFE"),
        ),
    ];
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        cases.push((
            "code that must not be sent",
            PROTOCOL_ERROR,
            close(code, ""),
        ));
    }
    assert_violations(&cases, cause);
}

#[test]
fn r14_text_that_is_no_utf_8() {
    let euro = "\u{20AC}".as_bytes();
    let in_two = |first: &[u8], second: &[u8]| {
        [frame(TEXT, first), frame(FIN | CONTINUATION, second)].concat()
    };
    let cases = [
        ("0xFF", frame(FIN | TEXT, b"ab\xFFcd")),
        ("overlong slash", frame(FIN | TEXT, b"\xC0\xAF")),
        ("surrogate", frame(FIN | TEXT, b"\xED\xA0\x80")),
        ("beyond U+10FFFF", frame(FIN | TEXT, b"\xF4\x90\x80\x80")),
        ("cut short at the end", frame(FIN | TEXT, &euro[..2])),
        ("cut short across fragments", in_two(&euro[..1], b"a")),
        ("at the end of the second", in_two(b"a", &euro[..2])),
        (
            "behind a megabyte less a bit",
            frame(FIN | TEXT, &[vec![b'a'; 1_000_000], vec![0x80]].concat()),
        ),
        // The last fragment never comes: what is wrong is told at once.
        ("in a message that has not ended", frame(TEXT, b"\xFF")),
        (
            "in half a frame",
            frame(FIN | TEXT, &[0xFF; 100])[..20].to_vec(),
        ),
    ]
    .map(|(name, bytes)| (name, INVALID_PAYLOAD, bytes));
    assert_violations(&cases, cause);
}

#[test]
fn r14_messages_above_the_limit() {
    let limit = 1 << 20;
    let announced = |length: u64| {
        let mut bytes = vec![FIN | BINARY, 0xFF];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0; 4]);
        (length, bytes)
    };
    let fragments = [
        frame(BINARY, &vec![0; limit]),
        frame(FIN | CONTINUATION, &[0]),
    ];
    let cases = [
        ("a byte more", TOO_BIG, binary(&vec![0; limit + 1])),
        ("a byte more in fragments", TOO_BIG, fragments.concat()),
        // It is answered before any of it has come.
        ("a gigabyte announced", TOO_BIG, announced(1 << 30).1),
        ("2^63 - 1 announced", TOO_BIG, announced(u64::MAX >> 1).1),
    ];
    assert_violations(&cases, cause);
}

#[test]
fn r14_an_announced_length_is_never_allocated() {
    let server = Server::start("--max-message-size 1GiB");
    drop(Client::open_many(&server, 10));
    server.until_empty(SLACK);
    let before = server.memory("VmRSS");
    let mut clients = Client::open_many(&server, 100);
    for client in &mut clients {
        let mut bytes = vec![FIN | BINARY, 0xFF];
        bytes.extend(900_000_000_u64.to_be_bytes());
        bytes.extend([0; 4 + 100]);
        client.send(&bytes);
    }
    // Each is read when the one behind it is answered.
    let mut last = Client::open(&server);
    last.send(&frame(PING, b"read?"));
    last.expect(PONG, b"read?");
    let cost = server.memory("VmHWM") - before;
    assert!(cost < 4 << 20, "{cost} bytes for 90 GB announced");
}

#[test]
fn r14_who_ignores_the_close_is_reset_at_c() {
    let server = Server::start("--close-timeout 500ms");
    let mut client = Client::open(&server);
    client.send(&frame(FIN | 0x3, b""));
    let start = wait::now();
    assert_eq!(client.frame().close_code(), PROTOCOL_ERROR);
    assert_eq!(client.end(), End::Fin);
    client.send(&frame(FIN | TEXT, b"what of it"));
    server.until_empty(C + SLACK);
    assert!(start.elapsed() >= C - ms(20));
    socket_table::assert_no_orphans_soon(server.port());
}
