//! The conformance suite. Each case has a number and a name. A server receives the frames as those of a client, and a
//! client as those of a server, in one piece and in several.
//!
//! | numbers | subject |
//! |---|---|
//! | 1 | framing: every form of a length, text and binary |
//! | 2 | pings and pongs |
//! | 3 | reserved bits |
//! | 4 | opcodes |
//! | 5 | fragmentation |
//! | 6 | UTF-8 |
//! | 7 | closing |
//! | 8 | limits |
//! | 9 | permessage-deflate |

#[path = "../common/mod.rs"]
mod common;
#[path = "../utf8_vectors/mod.rs"]
mod utf8_vectors;

mod closing;
mod data;
mod deflate;
mod suite;
mod text;

use std::collections::HashSet;

use suite::Case;

fn cases() -> Vec<Case> {
    [
        data::cases(),
        text::cases(),
        closing::cases(),
        deflate::cases(),
    ]
    .concat()
}

fn run(group: &str) {
    let cases: Vec<_> = cases()
        .into_iter()
        .filter(|case| case.number.starts_with(group))
        .collect();
    assert!(
        !cases.is_empty(),
        "no case has a number that starts with {group}"
    );
    for case in cases {
        case.run();
    }
}

#[test]
fn numbers_and_names_of_cases_are_unique() {
    let cases = cases();
    let numbers: HashSet<_> = cases.iter().map(|case| &case.number).collect();
    let names: HashSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!((numbers.len(), names.len()), (cases.len(), cases.len()));
}

#[test]
fn group_1_framing() {
    run("1.");
}

#[test]
fn group_2_pings_and_pongs() {
    run("2.");
}

#[test]
fn group_3_reserved_bits() {
    run("3.");
}

#[test]
fn group_4_opcodes() {
    run("4.");
}

#[test]
fn group_5_fragmentation() {
    run("5.");
}

#[test]
fn group_6_utf_8() {
    run("6.");
}

#[test]
fn group_7_closing() {
    run("7.");
}

#[test]
fn group_8_limits() {
    run("8.");
}

#[test]
fn group_9_deflate() {
    run("9.");
}
