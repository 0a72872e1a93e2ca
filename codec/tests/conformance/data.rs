use crate::common::{Observed, binary, text};
use crate::suite::{Case, Ends, bytes, fragments};

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

pub(crate) fn cases() -> Vec<Case> {
    [
        framing(),
        pings(),
        reserved(),
        opcodes(),
        fragmentation(),
        limits(),
    ]
    .concat()
}

fn ping(payload: &[u8]) -> Observed {
    Observed::Ping(payload.to_vec())
}

fn pong(payload: &[u8]) -> Observed {
    Observed::Pong(payload.to_vec())
}

fn framing() -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, len) in [0, 1, 125, 126, 127, 128, 65_535, 65_536, 65_537]
        .into_iter()
        .enumerate()
    {
        let letters = vec![b'*'; len];
        let (one, two) = (format!("1.1.{}", i + 1), format!("1.2.{}", i + 1));
        let expected = text(&"*".repeat(len));
        cases.push(Case::new(
            one,
            format!("text of {len} bytes"),
            [(TEXT, letters)],
            [expected],
            Ends::Open,
        ));
        let payload: Vec<u8> = (0..len).map(|i| (i % 256) as u8).collect();
        let expected = binary(&payload);
        cases.push(Case::new(
            two,
            format!("binary of {len} bytes"),
            [(BINARY, payload)],
            [expected],
            Ends::Open,
        ));
    }
    cases.push(Case::new(
        "1.3.1",
        "consecutive messages",
        [
            (TEXT, bytes(b"a")),
            (BINARY, bytes(b"b")),
            (TEXT, bytes(b"")),
            (BINARY, bytes(b"d")),
        ],
        [text("a"), binary(b"b"), text(""), binary(b"d")],
        Ends::Open,
    ));
    cases
}

fn pings() -> Vec<Case> {
    let all: Vec<u8> = (0..125).collect();
    vec![
        Case::new(
            "2.1",
            "ping without payload",
            [(PING, bytes(b""))],
            [ping(b"")],
            Ends::Open,
        ),
        Case::new(
            "2.2",
            "ping with text",
            [(PING, bytes(b"Hello"))],
            [ping(b"Hello")],
            Ends::Open,
        ),
        Case::new(
            "2.3",
            "ping that is not UTF-8",
            [(PING, bytes(b"\0\xff\xfe"))],
            [ping(b"\0\xff\xfe")],
            Ends::Open,
        ),
        Case::new(
            "2.4",
            "ping of 125 bytes",
            [(PING, all.clone())],
            [ping(&all)],
            Ends::Open,
        ),
        Case::new(
            "2.5",
            "ping of 126 bytes",
            [(PING, vec![0; 126])],
            [],
            Ends::Failed(1002),
        ),
        Case::new(
            "2.6",
            "pong without a ping",
            [(PONG, bytes(b""))],
            [pong(b"")],
            Ends::Open,
        ),
        Case::new(
            "2.7",
            "pong with payload, without a ping",
            [(PONG, bytes(b"x"))],
            [pong(b"x")],
            Ends::Open,
        ),
        Case::new(
            "2.8",
            "pong, then ping",
            [(PONG, bytes(b"x")), (PING, bytes(b"y"))],
            [pong(b"x"), ping(b"y")],
            Ends::Open,
        ),
        Case::new(
            "2.9",
            "ten pings",
            (0..10).map(|i| (PING, vec![i])).collect::<Vec<_>>(),
            (0..10).map(|i| ping(&[i])).collect::<Vec<_>>(),
            Ends::Open,
        ),
        Case::new(
            "2.10",
            "pong of 126 bytes",
            [(PONG, vec![0; 126])],
            [],
            Ends::Failed(1002),
        ),
        Case::new(
            "2.11",
            "ping of 70,000 bytes",
            [(PING, vec![0; 70_000])],
            [],
            Ends::Failed(1002),
        ),
    ]
}

fn reserved() -> Vec<Case> {
    let mut cases = Vec::new();
    for reserved in 1..8_u8 {
        for (kind, name, first) in [
            (1, "text", TEXT),
            (2, "binary", BINARY),
            (3, "ping", PING),
            (4, "close", 0x88),
        ] {
            cases.push(Case::new(
                format!("3.{reserved}.{kind}"),
                format!("{name} with reserved bits {reserved:03b}"),
                [
                    (TEXT, bytes(b"before")),
                    (first | reserved << 4, bytes(b"")),
                ],
                [text("before")],
                Ends::Failed(1002),
            ));
        }
    }
    cases
}

fn opcodes() -> Vec<Case> {
    let mut cases = Vec::new();
    for opcode in (3..8).chain(11..16_u8) {
        for (i, payload) in [b"".as_slice(), b"payload"].into_iter().enumerate() {
            cases.push(Case::new(
                format!("4.{opcode}.{}", i + 1),
                format!("opcode {opcode} with {} bytes", payload.len()),
                [
                    (TEXT, bytes(b"before")),
                    (0x80 | opcode, bytes(payload)),
                    (PING, bytes(b"")),
                ],
                [text("before")],
                Ends::Failed(1002),
            ));
        }
    }
    cases
}

fn fragmentation() -> Vec<Case> {
    let long = "Hello-µ@ßöäüàá-UTF-8!!".repeat(20);
    let mut cases = vec![
        Case::new(
            "5.1",
            "ping in fragments",
            [(0x09, bytes(b"a")), (0x80, bytes(b"b"))],
            [],
            Ends::Failed(1002),
        ),
        Case::new(
            "5.2",
            "pong in fragments",
            [(0x0a, bytes(b"a")), (0x80, bytes(b"b"))],
            [],
            Ends::Failed(1002),
        ),
        Case::new(
            "5.3",
            "ping between fragments",
            [
                (0x01, bytes(b"a")),
                (PING, bytes(b"?")),
                (0x80, bytes(b"b")),
            ],
            [ping(b"?"), text("ab")],
            Ends::Open,
        ),
        Case::new(
            "5.4",
            "pings and pongs between fragments",
            [
                (0x02, bytes(b"a")),
                (PING, bytes(b"1")),
                (0x00, bytes(b"b")),
                (PONG, bytes(b"2")),
                (PING, bytes(b"3")),
                (0x80, bytes(b"c")),
            ],
            [ping(b"1"), pong(b"2"), ping(b"3"), binary(b"abc")],
            Ends::Open,
        ),
        Case::new(
            "5.5",
            "last fragment without a first",
            [(0x80, bytes(b"a")), (TEXT, bytes(b"b"))],
            [],
            Ends::Failed(1002),
        ),
        Case::new(
            "5.6",
            "fragment without a first",
            [(0x00, bytes(b"a")), (TEXT, bytes(b"b"))],
            [],
            Ends::Failed(1002),
        ),
        Case::new(
            "5.7",
            "text within a text",
            [(0x01, bytes(b"a")), (TEXT, bytes(b"b"))],
            [],
            Ends::Failed(1002),
        ),
        Case::new(
            "5.8",
            "first fragment within a binary",
            [(0x02, bytes(b"a")), (0x02, bytes(b"b"))],
            [],
            Ends::Failed(1002),
        ),
        Case::new(
            "5.9",
            "fragment after the last one",
            [
                (0x01, bytes(b"a")),
                (0x80, bytes(b"b")),
                (0x80, bytes(b"c")),
            ],
            [text("ab")],
            Ends::Failed(1002),
        ),
        Case::new(
            "5.10",
            "empty fragments only",
            [(0x01, bytes(b"")), (0x00, bytes(b"")), (0x80, bytes(b""))],
            [text("")],
            Ends::Open,
        ),
        Case::new(
            "5.11",
            "empty fragments around one with text",
            [
                (0x01, bytes(b"")),
                (0x00, bytes(b"mid")),
                (0x80, bytes(b"")),
            ],
            [text("mid")],
            Ends::Open,
        ),
        Case::new(
            "5.12",
            "two messages in fragments",
            [
                (0x01, bytes(b"a")),
                (0x80, bytes(b"b")),
                (0x02, bytes(b"c")),
                (0x80, bytes(b"d")),
            ],
            [text("ab"), binary(b"cd")],
            Ends::Open,
        ),
        Case::new(
            "5.13",
            "close in fragments",
            [(0x08, bytes(b"\x03")), (0x80, bytes(b"\xe8"))],
            [],
            Ends::Failed(1002),
        ),
    ];
    for (i, size) in [1, 2, 3, 16, 125, 126, 400].into_iter().enumerate() {
        cases.push(Case::new(
            format!("5.20.{}", i + 1),
            format!("text in fragments of {size} bytes"),
            fragments(0x01, long.as_bytes(), size),
            [text(&long)],
            Ends::Open,
        ));
    }
    cases
}

fn limits() -> Vec<Case> {
    let (fits, too_long) = (vec![b'a'; 1000], vec![b'a'; 1001]);
    let letters = "a".repeat(1000);
    let small = |case: Case| case.with_limits(1000, 10);
    vec![
        small(Case::new(
            "8.1.1",
            "message at the limit",
            [(TEXT, fits.clone())],
            [text(&letters)],
            Ends::Open,
        )),
        small(Case::new(
            "8.1.2",
            "message above the limit",
            [(TEXT, too_long.clone())],
            [],
            Ends::Failed(1009),
        )),
        small(Case::new(
            "8.2.1",
            "fragments at the limits of bytes and number",
            fragments(0x01, &fits, 100),
            [text(&letters)],
            Ends::Open,
        )),
        small(Case::new(
            "8.2.2",
            "fragments above the limit of bytes",
            fragments(0x01, &too_long, 500),
            [],
            Ends::Failed(1009),
        )),
        small(Case::new(
            "8.2.3",
            "fragments above the limit of their number",
            fragments(0x01, &fits[..11], 1),
            [],
            Ends::Failed(1009),
        )),
        small(Case::new(
            "8.2.4",
            "empty fragments above the limit of their number",
            std::iter::once((0x02, Vec::new()))
                .chain((0..10).map(|_| (0x00, Vec::new())))
                .collect::<Vec<_>>(),
            [],
            Ends::Failed(1009),
        )),
        small(Case::new(
            "8.3.1",
            "limits apply to each message",
            [
                (TEXT, fits.clone()),
                (BINARY, fits.clone()),
                (TEXT, fits.clone()),
            ],
            [text(&letters), binary(&fits), text(&letters)],
            Ends::Open,
        )),
    ]
}
