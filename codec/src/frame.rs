//! Frames: their headers and encoding (RFC 6455 5.2).

use bytes::{BufMut, Bytes, BytesMut};

use crate::mask;
use crate::violation::Violation;

/// Largest header of a frame in bytes: 2, plus 8 of extended length, plus 4 of masking key.
pub const HEADER_SIZE_MAX: usize = 14;

/// Largest payload of a control frame in bytes (RFC 6455 5.5).
pub const CONTROL_PAYLOAD_SIZE_MAX: usize = SHORT_PAYLOAD_SIZE_MAX;

/// Largest payload in bytes whose length is in the second byte of the header.
pub(crate) const SHORT_PAYLOAD_SIZE_MAX: usize = 125;

/// Smallest payload length that is encoded in 16 bits, and the marker of such a length.
const LENGTH_16_BIT: u64 = 126;
/// Smallest payload length that is encoded in 64 bits.
const LENGTH_64_BIT: u64 = 1 << 16;
/// The marker of a 64-bit length.
const LENGTH_64_BIT_MARKER: u8 = 127;

const FIN: u8 = 0x80;
const MASK: u8 = 0x80;

/// The type of a frame (RFC 6455 5.2), without the reserved opcodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A fragment of a message after the first one.
    Continuation = 0x0,
    /// A text message, or its first fragment.
    Text = 0x1,
    /// A binary message, or its first fragment.
    Binary = 0x2,
    /// A frame of the closing handshake.
    Close = 0x8,
    /// A request for a Pong with the same payload.
    Ping = 0x9,
    /// The answer to a Ping, or an unsolicited frame.
    Pong = 0xa,
}

impl Opcode {
    /// Returns whether this is the opcode of a control frame (RFC 6455 5.5).
    #[inline]
    #[must_use]
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }

    #[inline]
    const fn from_bits(bits: u8) -> Result<Self, Violation> {
        match bits {
            0x0 => Ok(Self::Continuation),
            0x1 => Ok(Self::Text),
            0x2 => Ok(Self::Binary),
            0x8 => Ok(Self::Close),
            0x9 => Ok(Self::Ping),
            0xa => Ok(Self::Pong),
            got => Err(Violation::ReservedOpcode { got }),
        }
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whether this is the last fragment of a message.
    pub fin: bool,
    /// RSV1, RSV2, RSV3 as bits 2, 1, 0. Extensions define their meaning.
    pub reserved: u8,
    /// The type of the frame.
    pub opcode: Opcode,
    /// The masking key, if the payload is masked.
    pub masking_key: Option<[u8; 4]>,
    /// The length of the payload in bytes, at most 2^63 - 1.
    pub payload_len: u64,
}

impl FrameHeader {
    /// Returns the header of an unfragmented frame without reserved bits.
    #[must_use]
    pub const fn new(opcode: Opcode, masking_key: Option<[u8; 4]>, payload_len: u64) -> Self {
        Self {
            fin: true,
            reserved: 0,
            opcode,
            masking_key,
            payload_len,
        }
    }

    /// Parses the header at the start of `bytes`. Returns `None` if the header is incomplete.
    ///
    /// Reserved bits and the presence of a masking key are not checked, because the rules for them depend
    /// on the connection.
    ///
    /// # Errors
    ///
    /// If the opcode is reserved, a control frame is fragmented or too long, or the length is not minimal
    /// or has its top bit set.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let &[first, second, ref rest @ ..] = bytes else {
            return Ok(None);
        };
        let opcode = Opcode::from_bits(first & 0x0f)?;
        let fin = first & FIN != 0;
        let short = second & !MASK;
        if opcode.is_control() {
            check_control(fin, short)?;
        }
        let (payload_len, rest) = if u64::from(short) < LENGTH_16_BIT {
            (u64::from(short), rest)
        } else {
            match parse_extended_length(short, rest)? {
                Some(parsed) => parsed,
                None => return Ok(None),
            }
        };
        let masking_key = if second & MASK == 0 {
            None
        } else {
            match rest.first_chunk::<4>() {
                Some(&key) => Some(key),
                None => return Ok(None),
            }
        };
        let reserved = (first >> 4) & 0b111;
        Ok(Some(Self {
            fin,
            reserved,
            opcode,
            masking_key,
            payload_len,
        }))
    }

    /// Returns the size of the encoded header in bytes: 2 to [`HEADER_SIZE_MAX`].
    #[inline]
    #[must_use]
    pub const fn size(&self) -> usize {
        let masking_key = if self.masking_key.is_some() { 4 } else { 0 };
        unmasked_header_size(self.payload_len) + masking_key
    }

    /// Appends the encoded header to `out`.
    ///
    /// # Panics
    ///
    /// If the length has its top bit set, or `out` has no room.
    #[inline]
    pub fn encode(&self, out: &mut impl BufMut) {
        let mut bytes = [0; HEADER_SIZE_MAX];
        let size = self.encode_to(&mut bytes);
        out.put_slice(&bytes[..size]);
    }

    /// Writes the encoded header to the start of `bytes`, and returns its size in bytes.
    ///
    /// # Panics
    ///
    /// If `bytes` is shorter than [`size`](Self::size), or the length has its top bit set.
    #[inline]
    pub fn encode_to(&self, bytes: &mut [u8]) -> usize {
        assert!(
            self.payload_len >> 63 == 0,
            "payload length {} has its top bit set",
            self.payload_len
        );
        bytes[0] = u8::from(self.fin) << 7 | self.reserved << 4 | self.opcode as u8;
        let masked = if self.masking_key.is_some() { MASK } else { 0 };
        let size = unmasked_header_size(self.payload_len);
        match size {
            2 => bytes[1] = masked | self.payload_len as u8,
            4 => {
                bytes[1] = masked | LENGTH_16_BIT as u8;
                bytes[2..4].copy_from_slice(&(self.payload_len as u16).to_be_bytes());
            }
            _ => {
                bytes[1] = masked | LENGTH_64_BIT_MARKER;
                bytes[2..10].copy_from_slice(&self.payload_len.to_be_bytes());
            }
        }
        match self.masking_key {
            Some(key) => {
                bytes[size..size + 4].copy_from_slice(&key);
                size + 4
            }
            None => size,
        }
    }
}

/// Returns the size of the header of an unmasked frame in bytes: 2, 4 or 10.
#[inline]
pub(crate) const fn unmasked_header_size(payload_len: u64) -> usize {
    if payload_len < LENGTH_16_BIT {
        2
    } else if payload_len < LENGTH_64_BIT {
        4
    } else {
        10
    }
}

/// Encodes one unmasked, unfragmented frame. All receivers of a broadcast can share it.
#[must_use]
pub fn encode_frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let header = FrameHeader::new(opcode, None, payload.len() as u64);
    let mut frame = BytesMut::with_capacity(header.size() + payload.len());
    header.encode(&mut frame);
    mask::append(payload, &mut frame, None);
    frame.freeze()
}

/// Appends one frame to `out`, and masks it if `header` has a key.
#[inline]
pub(crate) fn append_frame(header: FrameHeader, payload: &[u8], out: &mut Vec<u8>) {
    debug_assert_eq!(header.payload_len, payload.len() as u64);
    out.reserve(HEADER_SIZE_MAX + payload.len());
    header.encode(out);
    mask::append(payload, out, header.masking_key);
}

#[inline]
fn check_control(fin: bool, short: u8) -> Result<(), Violation> {
    if !fin {
        return Err(Violation::FragmentedControlFrame);
    }
    match short {
        0..=125 => Ok(()),
        126 => Err(Violation::ControlFrameTooLong { got: 126 }),
        _ => Err(Violation::ControlFrameTooLong { got: 1 << 16 }),
    }
}

#[inline]
fn parse_extended_length(short: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, Violation> {
    let (got, minimum, rest) = if short == LENGTH_64_BIT_MARKER {
        let Some((length, rest)) = rest.split_first_chunk::<8>() else {
            return Ok(None);
        };
        (u64::from_be_bytes(*length), LENGTH_64_BIT, rest)
    } else {
        let Some((length, rest)) = rest.split_first_chunk::<2>() else {
            return Ok(None);
        };
        (u64::from(u16::from_be_bytes(*length)), LENGTH_16_BIT, rest)
    };
    if got >> 63 != 0 {
        return Err(Violation::LengthTopBit);
    }
    if got < minimum {
        return Err(Violation::NonMinimalLength { got });
    }
    Ok(Some((got, rest)))
}
