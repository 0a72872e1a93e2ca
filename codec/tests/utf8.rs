//! Comparison of the validator with `std::str::from_utf8`, at every split of every vector.

mod utf8_vectors;

use tidewheel_codec::utf8::Validator;
use utf8_vectors::VECTORS;

/// Returns the number of bytes after which the validator fails.
fn fails_after(pieces: &[&[u8]]) -> Option<usize> {
    let mut validator = Validator::new();
    let mut taken = 0;
    for piece in pieces {
        taken += piece.len();
        if validator.push(piece).is_err() {
            return Some(taken);
        }
    }
    validator.finish().is_err().then_some(taken)
}

/// Returns the length of the shortest prefix that no continuation makes valid.
fn first_invalid(text: &[u8]) -> Option<usize> {
    (0..=text.len()).find(|&end| {
        std::str::from_utf8(&text[..end]).is_err_and(|error| error.error_len().is_some())
    })
}

#[test]
fn every_split_of_every_vector_equals_from_utf8() {
    for &(name, vector) in VECTORS {
        // Text around the vector, so that the validator uses vector instructions.
        for padding in [0, 1, 62, 63, 64, 65, 127, 200] {
            let padding = "x".repeat(padding);
            let text = [padding.as_bytes(), vector, padding.as_bytes()].concat();
            let expected = std::str::from_utf8(&text).is_ok();
            for split in 0..=text.len() {
                let (head, tail) = text.split_at(split);
                assert_eq!(
                    fails_after(&[head, tail]).is_none(),
                    expected,
                    "{name}, split at {split}"
                );
            }
        }
    }
}

#[test]
fn the_validator_fails_at_the_first_invalid_byte() {
    for &(name, vector) in VECTORS {
        let bytes: Vec<&[u8]> = vector.chunks(1).collect();
        match first_invalid(vector) {
            Some(end) => assert_eq!(fails_after(&bytes), Some(end), "{name}"),
            None => assert_eq!(
                fails_after(&bytes).is_none(),
                std::str::from_utf8(vector).is_ok(),
                "{name}"
            ),
        }
    }
}

#[test]
fn every_character_is_accepted_byte_by_byte() {
    for character in '\0'..=char::MAX {
        let mut bytes = [0; 4];
        let text = character.encode_utf8(&mut bytes).as_bytes();
        let pieces: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(fails_after(&pieces), None, "{character:?}");
    }
}

#[test]
fn every_triple_of_boundary_bytes_equals_from_utf8() {
    const EDGES: [u8; 22] = [
        0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec,
        0xed, 0xee, 0xef, 0xf0, 0xf4, 0xf5, 0xff,
    ];
    for one in EDGES {
        for two in EDGES {
            for three in EDGES {
                let text = [one, two, three];
                let pieces: Vec<&[u8]> = text.chunks(1).collect();
                assert_eq!(
                    fails_after(&pieces).is_none(),
                    std::str::from_utf8(&text).is_ok(),
                    "{text:02x?}"
                );
            }
        }
    }
}
