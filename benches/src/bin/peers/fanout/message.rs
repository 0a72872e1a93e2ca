//! The messages: what the publisher sends, and what arrives.

use tidewheel_codec::{
    frame::{FrameHeader, Opcode},
    mask::mask,
};

/// The bytes of a message.
pub(crate) const PAYLOAD_SIZE: usize = 64;

/// The bytes of a frame from a server: two of header, no masking key (RFC 6455 5.2).
pub(crate) const FRAME_SIZE: usize = 2 + PAYLOAD_SIZE;

const MASKING_KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn payload(number: u64) -> [u8; PAYLOAD_SIZE] {
    let text = format!("{number:0PAYLOAD_SIZE$}");
    text.into_bytes().try_into().expect("it is padded")
}

/// Appends a message as its publisher sends it.
pub(crate) fn write_masked(number: u64, out: &mut Vec<u8>) {
    FrameHeader::new(Opcode::Text, Some(MASKING_KEY), PAYLOAD_SIZE as u64).encode(out);
    let mut payload = payload(number);
    mask(&mut payload, MASKING_KEY);
    out.extend_from_slice(&payload);
}

/// A message as each subscriber gets it.
pub(crate) fn delivered(number: u64) -> [u8; FRAME_SIZE] {
    let mut frame = [0; FRAME_SIZE];
    frame[0] = 0x81;
    frame[1] = PAYLOAD_SIZE as u8;
    frame[2..].copy_from_slice(&payload(number));
    frame
}
