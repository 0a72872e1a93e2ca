//! Validation of UTF-8 in pieces (RFC 6455 8.1).

/// Longest incomplete sequence at the end of a piece, in bytes.
const CARRY_MAX: usize = 3;

/// The error of text that is not valid UTF-8, whatever bytes follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("text is not valid UTF-8")]
pub struct InvalidUtf8;

/// A validator of text in pieces. It fails at the first byte that cannot be part of valid UTF-8.
///
/// It keeps at most 3 bytes from one piece to the next.
///
/// ```
/// let mut validator = tidewheel_codec::utf8::Validator::new();
/// validator.push(b"\xe2\x82").unwrap();
/// validator.push(b"\xac").unwrap();
/// validator.finish().unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Validator {
    carry: [u8; CARRY_MAX],
    carried: u8,
}

impl Validator {
    /// Returns a validator for a new text.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            carry: [0; CARRY_MAX],
            carried: 0,
        }
    }

    /// Validates the next piece of the text.
    ///
    /// # Errors
    ///
    /// If the text so far is not a prefix of valid UTF-8.
    pub fn push(&mut self, mut piece: &[u8]) -> Result<(), InvalidUtf8> {
        while self.carried > 0 {
            let Some((&byte, rest)) = piece.split_first() else {
                return Ok(());
            };
            self.push_byte(byte)?;
            piece = rest;
        }
        match simdutf8::compat::from_utf8(piece) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(InvalidUtf8),
            Err(error) => {
                let incomplete = &piece[error.valid_up_to()..];
                self.carry[..incomplete.len()].copy_from_slice(incomplete);
                self.carried = incomplete.len() as u8;
                Ok(())
            }
        }
    }

    /// Validates the end of the text.
    ///
    /// # Errors
    ///
    /// If the text ends within a sequence.
    pub const fn finish(self) -> Result<(), InvalidUtf8> {
        if self.carried == 0 {
            Ok(())
        } else {
            Err(InvalidUtf8)
        }
    }

    /// Adds one byte to the incomplete sequence.
    fn push_byte(&mut self, byte: u8) -> Result<(), InvalidUtf8> {
        let carried = usize::from(self.carried);
        let mut sequence = [0; CARRY_MAX + 1];
        sequence[..carried].copy_from_slice(&self.carry[..carried]);
        sequence[carried] = byte;
        match std::str::from_utf8(&sequence[..=carried]) {
            Ok(_) => self.carried = 0,
            Err(error) if error.error_len().is_some() => return Err(InvalidUtf8),
            Err(_) => {
                self.carry[carried] = byte;
                self.carried += 1;
            }
        }
        Ok(())
    }
}

/// Returns whether `text` is valid UTF-8.
#[inline]
#[must_use]
pub fn is_valid(text: &[u8]) -> bool {
    simdutf8::basic::from_utf8(text).is_ok()
}
