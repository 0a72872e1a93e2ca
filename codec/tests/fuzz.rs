//! The harnesses of the fuzz targets, over their corpora, changed corpora, and random bytes.

#[path = "../fuzz/src/lib.rs"]
#[expect(
    unreachable_pub,
    reason = "the harnesses are also a crate for cargo fuzz"
)]
mod harness;

use std::fs;
use std::path::Path;

use harness::TARGETS;
use proptest::prelude::*;

/// Returns the stored inputs of a target.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn harnesses_accept_every_prefix_of_every_stored_input() {
    for (name, harness) in TARGETS {
        for input in corpus(name) {
            for size in 0..=input.len() {
                harness(&input[..size]);
            }
        }
    }
}

#[test]
fn harnesses_accept_every_stored_input_with_one_byte_changed() {
    for (name, harness) in TARGETS {
        for input in corpus(name) {
            for position in 0..input.len().min(300) {
                for change in [0x01, 0x02, 0x10, 0x40, 0x80, 0xff] {
                    let mut changed = input.clone();
                    changed[position] ^= change;
                    harness(&changed);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn harnesses_accept_random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for (_, harness) in TARGETS {
            harness(&bytes);
        }
    }

    #[test]
    fn harnesses_accept_concatenated_stored_inputs(picks: Vec<prop::sample::Index>, cut: prop::sample::Index) {
        for (name, harness) in TARGETS {
            let corpus = corpus(name);
            let inputs: Vec<u8> = picks.iter().take(4).flat_map(|pick| pick.get(&corpus).clone()).collect();
            harness(&inputs[..cut.index(inputs.len() + 1)]);
        }
    }
}
