use tidewheel_codec::utf8::{Validator, is_valid};

/// Asserts that the validator equals `str::from_utf8`, and fails at the first byte that cannot be part of valid
/// text. The first byte chooses the size of the pieces.
pub fn utf8(bytes: &[u8]) {
    let [size, text @ ..] = bytes else {
        return;
    };
    let expected = std::str::from_utf8(text);
    let mut validator = Validator::new();
    let mut taken = 0;
    for piece in text.chunks(usize::from(size % 80) + 1) {
        taken += piece.len();
        let prefix = std::str::from_utf8(&text[..taken]);
        let is_invalid = prefix.is_err_and(|error| error.error_len().is_some());
        assert_eq!(validator.push(piece).is_err(), is_invalid);
        if is_invalid {
            return;
        }
    }
    assert_eq!(validator.finish().is_ok(), expected.is_ok());
    assert_eq!(is_valid(text), expected.is_ok());
}
