use crate::common::{Observed, text};
use crate::suite::{Case, Ends, bytes, fragments};
use crate::utf8_vectors::VECTORS;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, &(name, vector)) in VECTORS.iter().enumerate() {
        let number = i + 1;
        let around = [b"before ", vector, b" after"].concat();
        cases.push(case(
            format!("6.1.{number}"),
            format!("{name}, whole"),
            vec![(0x81, bytes(vector))],
            vector,
        ));
        let frames = fragments(0x01, vector, 1);
        cases.push(case(
            format!("6.2.{number}"),
            format!("{name}, a byte a fragment"),
            frames,
            vector,
        ));
        cases.push(case(
            format!("6.3.{number}"),
            format!("{name}, within text"),
            vec![(0x81, around.clone())],
            &around,
        ));
        let long = [&b"x".repeat(150), vector, &b"x".repeat(150)].concat();
        cases.push(case(
            format!("6.4.{number}"),
            format!("{name}, within long text"),
            vec![(0x81, long.clone())],
            &long,
        ));
    }
    cases.push(Case::new(
        "6.5.1",
        "each message is validated separately",
        [(0x81, bytes(b"\xe2\x82\xac")), (0x81, bytes(b"\x82\xac"))],
        [text("\u{20ac}")],
        Ends::Failed(1007),
    ));
    cases.push(Case::new(
        "6.5.2",
        "binary need not be UTF-8",
        [(0x82, bytes(b"\xff\xfe\x80"))],
        [Observed::Binary(bytes(b"\xff\xfe\x80"))],
        Ends::Open,
    ));
    cases.push(Case::new(
        "6.5.3",
        "a ping within a character",
        [
            (0x01, bytes(b"\xe2\x82")),
            (0x89, bytes(b"\xff")),
            (0x80, bytes(b"\xac")),
        ],
        [Observed::Ping(bytes(b"\xff")), text("\u{20ac}")],
        Ends::Open,
    ));
    cases
}

/// Returns a case whose expected end is given by `std::str::from_utf8`.
fn case(number: String, name: String, frames: Vec<(u8, Vec<u8>)>, payload: &[u8]) -> Case {
    match std::str::from_utf8(payload) {
        Ok(valid) => Case::new(number, name, frames, [text(valid)], Ends::Open),
        Err(_) => Case::new(number, name, frames, [], Ends::Failed(1007)),
    }
}
