//! The harnesses of the fuzz targets, over their corpora, over corpora with changes, and over
//! random bytes.

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "it is a crate of its own for cargo fuzz")]
mod harness;

use std::fs;
use std::path::Path;

use harness::TARGETS;
use proptest::prelude::*;

/// The stored inputs of a target.
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
fn every_stored_input_and_each_of_its_prefixes() {
    for (name, harness) in TARGETS {
        for input in corpus(name) {
            for size in 0..=input.len() {
                harness(&input[..size]);
            }
        }
    }
}

#[test]
fn every_stored_input_with_any_one_byte_changed() {
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
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for (_, harness) in TARGETS {
            harness(&bytes);
        }
    }

    #[test]
    fn stored_inputs_one_behind_the_other(picks: Vec<prop::sample::Index>, cut: prop::sample::Index) {
        for (name, harness) in TARGETS {
            let corpus = corpus(name);
            let inputs: Vec<u8> = picks.iter().take(4).flat_map(|pick| pick.get(&corpus).clone()).collect();
            harness(&inputs[..cut.index(inputs.len() + 1)]);
        }
    }
}
