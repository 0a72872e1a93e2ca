//! Frames that violate RFC 6455 or a limit, each with the close code of the server's answer.

use super::client::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, binary, close, frame};

pub(crate) const PROTOCOL_ERROR: u16 = 1002;
pub(crate) const INVALID_PAYLOAD: u16 = 1007;
pub(crate) const TOO_BIG: u16 = 1009;

/// Name of the violation, close code, and bytes.
pub(crate) type Violation = (&'static str, u16, Vec<u8>);

/// Returns the cause that the server counts for `code`.
pub(crate) fn cause(code: u16) -> &'static str {
    match code {
        TOO_BIG => "too_big",
        _ => "protocol_error",
    }
}

/// Returns frame headers that RFC 6455 5.2 and 5.5 forbid.
pub(crate) fn headers() -> Vec<Violation> {
    let key = [0; 4];
    let with_length = |first: u8, length: &[u8]| [&[first], length, &key].concat();
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
            "continuation without a message",
            PROTOCOL_ERROR,
            frame(CONTINUATION, b"a"),
        ),
        (
            "last fragment without a message",
            PROTOCOL_ERROR,
            frame(FIN | CONTINUATION, b"a"),
        ),
        (
            "text within a fragmented message",
            PROTOCOL_ERROR,
            [unfinished.as_slice(), &frame(FIN | TEXT, b"new")].concat(),
        ),
        (
            "binary within a fragmented message",
            PROTOCOL_ERROR,
            [unfinished.as_slice(), &frame(BINARY, b"new")].concat(),
        ),
        (
            "length 125 in 16 bits",
            PROTOCOL_ERROR,
            with_length(FIN | BINARY, &[0xFE, 0, 125]),
        ),
        (
            "length 65535 in 64 bits",
            PROTOCOL_ERROR,
            with_length(FIN | BINARY, &[0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]),
        ),
        (
            "length of 64 bits with the top bit",
            PROTOCOL_ERROR,
            with_length(FIN | BINARY, &[0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        ),
    ];
    for opcode in (0x3..=0x7).chain(0xB..=0xF) {
        cases.push(("reserved opcode", PROTOCOL_ERROR, frame(FIN | opcode, b"")));
    }
    cases
}

/// Returns Close frames that RFC 6455 5.5.1 and 7.4 forbid.
pub(crate) fn closes() -> Vec<Violation> {
    let mut cases = vec![
        ("close of 1 byte", PROTOCOL_ERROR, frame(CLOSE, &[3])),
        (
            "close reason that is not UTF-8",
            INVALID_PAYLOAD,
            frame(CLOSE, b"\x03\xE8\xFF\xFE"),
        ),
    ];
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        cases.push((
            "close code that must not be sent",
            PROTOCOL_ERROR,
            close(code, ""),
        ));
    }
    cases
}

/// Returns text that is not UTF-8 (RFC 6455 8.1).
pub(crate) fn texts() -> Vec<Violation> {
    let euro = "\u{20AC}".as_bytes();
    let in_two = |first: &[u8], second: &[u8]| {
        [frame(TEXT, first), frame(FIN | CONTINUATION, second)].concat()
    };
    [
        ("0xFF", frame(FIN | TEXT, b"ab\xFFcd")),
        ("overlong slash", frame(FIN | TEXT, b"\xC0\xAF")),
        ("surrogate", frame(FIN | TEXT, b"\xED\xA0\x80")),
        ("beyond U+10FFFF", frame(FIN | TEXT, b"\xF4\x90\x80\x80")),
        ("cut short at the end", frame(FIN | TEXT, &euro[..2])),
        ("cut short across fragments", in_two(&euro[..1], b"a")),
        (
            "cut short at the end of the last fragment",
            in_two(b"a", &euro[..2]),
        ),
        (
            "continuation byte behind a megabyte",
            frame(FIN | TEXT, &[vec![b'a'; 1_000_000], vec![0x80]].concat()),
        ),
        // The last fragment never comes: the server does not wait for it.
        ("in a message that is not complete", frame(TEXT, b"\xFF")),
        (
            "in a frame that is not complete",
            frame(FIN | TEXT, &[0xFF; 100])[..20].to_vec(),
        ),
    ]
    .map(|(name, bytes)| (name, INVALID_PAYLOAD, bytes))
    .to_vec()
}

/// Returns messages above a limit of 1 MiB.
pub(crate) fn messages() -> Vec<Violation> {
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
    vec![
        (
            "one byte over the limit",
            TOO_BIG,
            binary(&vec![0; limit + 1]),
        ),
        (
            "one byte over the limit in fragments",
            TOO_BIG,
            fragments.concat(),
        ),
        // The server answers before any payload has come.
        ("a gigabyte announced", TOO_BIG, announced(1 << 30).1),
        ("2^63 - 1 announced", TOO_BIG, announced(u64::MAX >> 1).1),
    ]
}
