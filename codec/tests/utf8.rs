//! The streaming validator against `std::str::from_utf8`, at every split of every vector, among
//! them the sections of Markus Kuhn's "UTF-8 decoder capability and stress test".

use tidewheel_codec::utf8::Validator;

/// Kuhn's numbers, with the bytes.
const VECTORS: &[(&str, &[u8])] = &[
    (
        "1 some correct text",
        "κόσμε \u{1f30a} þorn 潮の車輪".as_bytes(),
    ),
    ("2.1.1 first of 1 byte", b"\x00"),
    ("2.1.2 first of 2 bytes", b"\xc2\x80"),
    ("2.1.3 first of 3 bytes", b"\xe0\xa0\x80"),
    ("2.1.4 first of 4 bytes", b"\xf0\x90\x80\x80"),
    ("2.1.5 first of 5 bytes", b"\xf8\x88\x80\x80\x80"),
    ("2.1.6 first of 6 bytes", b"\xfc\x84\x80\x80\x80\x80"),
    ("2.2.1 last of 1 byte", b"\x7f"),
    ("2.2.2 last of 2 bytes", b"\xdf\xbf"),
    ("2.2.3 last of 3 bytes", b"\xef\xbf\xbf"),
    ("2.2.4 last of 4 bytes", b"\xf7\xbf\xbf\xbf"),
    ("2.2.5 last of 5 bytes", b"\xfb\xbf\xbf\xbf\xbf"),
    ("2.2.6 last of 6 bytes", b"\xfd\xbf\xbf\xbf\xbf\xbf"),
    ("2.3.1 U+D7FF", b"\xed\x9f\xbf"),
    ("2.3.2 U+E000", b"\xee\x80\x80"),
    ("2.3.3 U+FFFD", b"\xef\xbf\xbd"),
    ("2.3.4 U+10FFFF", b"\xf4\x8f\xbf\xbf"),
    ("2.3.5 U+110000", b"\xf4\x90\x80\x80"),
    ("3.1.1 first continuation byte", b"\x80"),
    ("3.1.2 last continuation byte", b"\xbf"),
    ("3.1.3 2 continuation bytes", b"\x80\xbf"),
    (
        "3.1.8 7 continuation bytes",
        b"\x80\xbf\x80\xbf\x80\xbf\x80",
    ),
    ("3.2.1 lonely start of 2", b"\xc0 \xc1 \xdf "),
    ("3.2.2 lonely start of 3", b"\xe0 \xef "),
    ("3.2.3 lonely start of 4", b"\xf0 \xf7 "),
    ("3.2.4 lonely start of 5", b"\xf8 \xfb "),
    ("3.2.5 lonely start of 6", b"\xfc \xfd "),
    ("3.3.1 2 bytes without the last", b"\xc0"),
    ("3.3.2 3 bytes without the last", b"\xe0\x80"),
    ("3.3.3 4 bytes without the last", b"\xf0\x80\x80"),
    ("3.3.6 2 bytes without the last", b"\xdf"),
    ("3.3.7 3 bytes without the last", b"\xef\xbf"),
    ("3.3.8 4 bytes without the last", b"\xf7\xbf\xbf"),
    (
        "3.4 several unfinished",
        b"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80",
    ),
    ("3.5.1 impossible byte", b"\xfe"),
    ("3.5.2 impossible byte", b"\xff"),
    ("3.5.3 impossible bytes", b"\xfe\xfe\xff\xff"),
    ("4.1.1 overlong slash of 2", b"\xc0\xaf"),
    ("4.1.2 overlong slash of 3", b"\xe0\x80\xaf"),
    ("4.1.3 overlong slash of 4", b"\xf0\x80\x80\xaf"),
    ("4.1.4 overlong slash of 5", b"\xf8\x80\x80\x80\xaf"),
    ("4.1.5 overlong slash of 6", b"\xfc\x80\x80\x80\x80\xaf"),
    ("4.2.1 greatest overlong of 2", b"\xc1\xbf"),
    ("4.2.2 greatest overlong of 3", b"\xe0\x9f\xbf"),
    ("4.2.3 greatest overlong of 4", b"\xf0\x8f\xbf\xbf"),
    ("4.3.1 overlong NUL of 2", b"\xc0\x80"),
    ("4.3.2 overlong NUL of 3", b"\xe0\x80\x80"),
    ("4.3.3 overlong NUL of 4", b"\xf0\x80\x80\x80"),
    ("5.1.1 surrogate U+D800", b"\xed\xa0\x80"),
    ("5.1.2 surrogate U+DB7F", b"\xed\xad\xbf"),
    ("5.1.7 surrogate U+DFFF", b"\xed\xbf\xbf"),
    (
        "5.2.1 surrogates U+D800 U+DC00",
        b"\xed\xa0\x80\xed\xb0\x80",
    ),
    (
        "5.2.8 surrogates U+DBFF U+DFFF",
        b"\xed\xaf\xbf\xed\xbf\xbf",
    ),
    ("5.3.1 noncharacter U+FFFE", b"\xef\xbf\xbe"),
    ("5.3.3 noncharacters U+FDD0", b"\xef\xb7\x90\xef\xb7\xaf"),
];

/// The number of bytes after which the validator fails, if it does before the end.
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

/// By the definition: the least prefix that no continuation makes valid.
fn first_invalid(text: &[u8]) -> Option<usize> {
    (0..=text.len()).find(|&end| {
        std::str::from_utf8(&text[..end]).is_err_and(|error| error.error_len().is_some())
    })
}

#[test]
fn every_split_of_every_vector_is_as_from_utf8() {
    for &(name, vector) in VECTORS {
        // Behind enough text for the vector code of the validator, and before some.
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
fn the_first_invalid_byte_fails() {
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
fn every_pair_and_triple_at_the_edges_is_as_from_utf8() {
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
