use flate2::{Compress, Compression, FlushCompress};
use tidewheel_codec::deflate::Deflate;

use crate::common::{Observed, binary, text};
use crate::suite::{Case, Ends, bytes, fragments};

const TEXT: u8 = 0xc1;
const BINARY: u8 = 0xc2;

/// A compressed "Hello" (RFC 7692 7.2.3.1).
const HELLO: &[u8] = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
/// A second "Hello", compressed as a reference to the previous message (RFC 7692 7.2.3.2).
const HELLO_AGAIN: &[u8] = b"\xf2\x00\x11\x00\x00";

fn without_takeover() -> Deflate {
    let mut deflate = Deflate::default();
    deflate.threshold = 0;
    deflate
}

fn with_takeover() -> Deflate {
    let mut deflate = without_takeover();
    deflate.context_takeover = true;
    deflate
}

/// Compresses `messages` with flate2.
fn compressed(messages: &[&[u8]], window_bits: u8, has_takeover: bool) -> Vec<Vec<u8>> {
    let mut compressor = Compress::new_with_window_bits(Compression::new(6), false, window_bits);
    let compress = |message: &&[u8]| {
        if !has_takeover {
            compressor.reset();
        }
        let mut out = Vec::with_capacity(2 * message.len() + 100);
        compressor
            .compress_vec(message, &mut out, FlushCompress::Sync)
            .unwrap();
        out.truncate(out.len() - 4);
        if out.is_empty() { vec![0] } else { out }
    };
    messages.iter().map(compress).collect()
}

pub(crate) fn cases() -> Vec<Case> {
    [examples(), violations(), sizes(), windows()].concat()
}

fn examples() -> Vec<Case> {
    let hello = || [text("Hello")];
    let without = |case: Case| case.with_deflate(without_takeover());
    vec![
        without(Case::new(
            "9.1.1",
            "one compressed block",
            [(TEXT, bytes(HELLO))],
            hello(),
            Ends::Open,
        )),
        without(Case::new(
            "9.1.2",
            "compressed, in fragments",
            fragments(0x41, HELLO, 3),
            hello(),
            Ends::Open,
        )),
        without(Case::new(
            "9.1.3",
            "compressed, a byte a fragment",
            fragments(0x41, HELLO, 1),
            hello(),
            Ends::Open,
        )),
        without(Case::new(
            "9.1.4",
            "a block without compression",
            [(TEXT, bytes(b"\x00\x05\x00\xfa\xffHello\x00"))],
            hello(),
            Ends::Open,
        )),
        without(Case::new(
            "9.1.5",
            "a block that is marked as the last",
            [(TEXT, bytes(b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"))],
            hello(),
            Ends::Open,
        )),
        without(Case::new(
            "9.1.6",
            "two compressed blocks",
            [(
                TEXT,
                bytes(b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"),
            )],
            hello(),
            Ends::Open,
        )),
        without(Case::new(
            "9.1.7",
            "empty, as one byte",
            [(TEXT, bytes(b"\0")), (BINARY, bytes(b"\0"))],
            [text(""), binary(b"")],
            Ends::Open,
        )),
        without(Case::new(
            "9.1.8",
            "uncompressed in a compressed session",
            [
                (0x81, bytes(b"plain")),
                (TEXT, bytes(HELLO)),
                (0x82, bytes(b"plain")),
            ],
            [text("plain"), text("Hello"), binary(b"plain")],
            Ends::Open,
        )),
        without(Case::new(
            "9.1.9",
            "ping between compressed fragments",
            [
                (0x41, bytes(&HELLO[..3])),
                (0x89, bytes(b"?")),
                (0x80, bytes(&HELLO[3..])),
            ],
            [Observed::Ping(bytes(b"?")), text("Hello")],
            Ends::Open,
        )),
        Case::new(
            "9.1.10",
            "window shared by messages",
            [(TEXT, bytes(HELLO)), (TEXT, bytes(HELLO_AGAIN))],
            [text("Hello"), text("Hello")],
            Ends::Open,
        )
        .with_deflate(with_takeover()),
    ]
}

fn violations() -> Vec<Case> {
    let without = |case: Case| case.with_deflate(without_takeover());
    vec![
        without(Case::new(
            "9.2.1",
            "RSV1 on a continuation",
            [(0x41, bytes(&HELLO[..3])), (0xc0, bytes(&HELLO[3..]))],
            [],
            Ends::Failed(1002),
        )),
        without(Case::new(
            "9.2.2",
            "RSV1 on a ping",
            [(0xc9, bytes(b""))],
            [],
            Ends::Failed(1002),
        )),
        without(Case::new(
            "9.2.3",
            "RSV1 on a pong",
            [(0xca, bytes(b""))],
            [],
            Ends::Failed(1002),
        )),
        without(Case::new(
            "9.2.4",
            "RSV1 on a close",
            [(0xc8, bytes(b""))],
            [],
            Ends::Failed(1002),
        )),
        without(Case::new(
            "9.2.5",
            "RSV2 with the extension",
            [(0xa1, bytes(HELLO))],
            [],
            Ends::Failed(1002),
        )),
        without(Case::new(
            "9.2.6",
            "RSV1 and RSV3 with the extension",
            [(0xd1, bytes(HELLO))],
            [],
            Ends::Failed(1002),
        )),
        Case::new(
            "9.2.7",
            "RSV1 without the extension",
            [(TEXT, bytes(HELLO))],
            [],
            Ends::Failed(1002),
        ),
        without(Case::new(
            "9.2.8",
            "a block of the reserved type",
            [(BINARY, bytes(b"\x07\x00"))],
            [],
            Ends::Failed(1007),
        )),
        without(Case::new(
            "9.2.9",
            "a reference to the message before, without takeover",
            [(TEXT, bytes(HELLO)), (TEXT, bytes(HELLO_AGAIN))],
            [text("Hello")],
            Ends::Failed(1007),
        )),
        without(Case::new(
            "9.2.10",
            "compressed text that is not UTF-8",
            [(TEXT, bytes(b"\x00\x02\x00\xfd\xff\xc3\x28\x00"))],
            [],
            Ends::Failed(1007),
        )),
    ]
}

fn sizes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, size) in [1, 16, 125, 126, 127, 1000, 1001, 16_384, 40_000, 100_000]
        .into_iter()
        .enumerate()
    {
        let json: String =
            r#"{"symbol":"TIDE","price":101.25,"volume":40},"#.chars().cycle().take(size).collect();
        for (group, has_takeover) in [(1, false), (2, true)] {
            let messages = [json.as_bytes(), json.as_bytes(), json.as_bytes()];
            let frames: Vec<_> = compressed(&messages, 15, has_takeover)
                .into_iter()
                .map(|payload| (TEXT, payload))
                .collect();
            let deflate = if has_takeover {
                with_takeover()
            } else {
                without_takeover()
            };
            let name = format!("3 texts of {size} bytes, takeover {has_takeover}");
            let case = Case::new(
                format!("9.3.{group}.{}", i + 1),
                name,
                frames,
                vec![text(&json); 3],
                Ends::Open,
            );
            cases.push(case.with_deflate(deflate));
        }
    }
    for (number, name, size, ends) in [
        ("9.4.1", "a bomb at the limit", 100_000, Ends::Open),
        (
            "9.4.2",
            "a bomb of a byte above the limit",
            100_001,
            Ends::Failed(1009),
        ),
        (
            "9.4.3",
            "a bomb of a hundred times the limit",
            10_000_000,
            Ends::Failed(1009),
        ),
    ] {
        let zeros = vec![0; size];
        let payload = compressed(&[&zeros], 15, false).remove(0);
        let events = if ends == Ends::Open {
            vec![binary(&zeros)]
        } else {
            Vec::new()
        };
        let case = Case::new(number, name, [(BINARY, payload)], events, ends);
        cases.push(
            case.with_limits(100_000, 10)
                .with_deflate(without_takeover()),
        );
    }
    cases
}

fn windows() -> Vec<Case> {
    let message: Vec<u8> = (0..20_000_u32).map(|i| (i * i % 251) as u8).collect();
    let mut cases = Vec::new();
    for window_bits in 9..=15 {
        for (group, has_takeover) in [(1, false), (2, true)] {
            let frames: Vec<_> = compressed(&[&message, &message], window_bits, has_takeover)
                .into_iter()
                .map(|payload| (BINARY, payload))
                .collect();
            let deflate = if has_takeover {
                with_takeover()
            } else {
                without_takeover()
            };
            let name = format!("window of {window_bits} bits, takeover {has_takeover}");
            let number = format!("9.5.{group}.{window_bits}");
            let case = Case::new(number, name, frames, vec![binary(&message); 2], Ends::Open);
            cases.push(case.with_deflate(deflate));
        }
    }
    cases
}
