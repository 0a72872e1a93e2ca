use crate::common::text;
use crate::suite::{Case, Ends, Frame, bytes};

const CLOSE: u8 = 0x88;

/// The reported code of a Close without a code.
const NO_CODE: u16 = 1005;

pub(crate) fn cases() -> Vec<Case> {
    [order(), bodies(), codes()].concat()
}

fn close(code: u16, reason: &[u8]) -> Frame {
    (CLOSE, [&code.to_be_bytes(), reason].concat())
}

fn order() -> Vec<Case> {
    vec![
        Case::new(
            "7.1.1",
            "message, then close",
            [(0x81, bytes(b"a")), close(1000, b"")],
            [text("a")],
            Ends::Closed(1000),
        ),
        Case::new(
            "7.1.2",
            "close twice",
            [close(1000, b""), close(1001, b"")],
            [],
            Ends::Closed(1000),
        ),
        Case::new(
            "7.1.3",
            "close, then ping",
            [close(1000, b""), (0x89, bytes(b""))],
            [],
            Ends::Closed(1000),
        ),
        Case::new(
            "7.1.4",
            "close, then text",
            [close(1000, b""), (0x81, bytes(b"a"))],
            [],
            Ends::Closed(1000),
        ),
        Case::new(
            "7.1.5",
            "close, then a bad frame",
            [close(1000, b""), (0x83, bytes(b""))],
            [],
            Ends::Closed(1000),
        ),
        Case::new(
            "7.1.6",
            "close within a message",
            [(0x01, bytes(b"a")), close(1000, b""), (0x80, bytes(b"b"))],
            [],
            Ends::Closed(1000),
        ),
        Case::new(
            "7.1.7",
            "bad frame, then close",
            [(0x83, bytes(b"")), close(1000, b"")],
            [],
            Ends::Failed(1002),
        ),
    ]
}

fn bodies() -> Vec<Case> {
    vec![
        Case::new(
            "7.3.1",
            "close without a body",
            [(CLOSE, bytes(b""))],
            [],
            Ends::Closed(NO_CODE),
        ),
        Case::new(
            "7.3.2",
            "close of 1 byte",
            [(CLOSE, bytes(b"a"))],
            [],
            Ends::Failed(1002),
        ),
        Case::new(
            "7.3.3",
            "close with a code only",
            [close(1000, b"")],
            [],
            Ends::Closed(1000),
        ),
        Case::new(
            "7.3.4",
            "close with a reason",
            [close(1000, b"Hello World!")],
            [],
            Ends::Closed(1000),
        ),
        Case::new(
            "7.3.5",
            "close with a reason of 123 bytes",
            [close(1000, &[b'*'; 123])],
            [],
            Ends::Closed(1000),
        ),
        Case::new(
            "7.3.6",
            "close with a reason of 124 bytes",
            [close(1000, &[b'*'; 124])],
            [],
            Ends::Failed(1002),
        ),
        Case::new(
            "7.5.1",
            "close with a reason that is not UTF-8",
            [close(1000, b"a\xce\xba\xed\xa0\x80")],
            [],
            Ends::Failed(1007),
        ),
        Case::new(
            "7.5.2",
            "close with a reason that ends within a character",
            [close(1000, b"a\xe2\x82")],
            [],
            Ends::Failed(1007),
        ),
        Case::new(
            "7.5.3",
            "close with a reason in Greek",
            [close(1000, "κόσμε".as_bytes())],
            [],
            Ends::Closed(1000),
        ),
    ]
}

fn codes() -> Vec<Case> {
    let allowed = [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000,
        4999,
    ];
    let forbidden = [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
    ];
    let case = |group: u16, code: u16, ends| {
        [b"".as_slice(), b"reason"]
            .into_iter()
            .enumerate()
            .map(move |(i, reason)| {
                let name = format!(
                    "close with code {code} and {} bytes of reason",
                    reason.len()
                );
                Case::new(
                    format!("7.{group}.{code}.{}", i + 1),
                    name,
                    [close(code, reason)],
                    [],
                    ends,
                )
            })
    };
    let allowed = allowed
        .into_iter()
        .flat_map(|code| case(7, code, Ends::Closed(code)));
    let forbidden = forbidden
        .into_iter()
        .flat_map(|code| case(9, code, Ends::Failed(1002)));
    allowed.chain(forbidden).collect()
}
