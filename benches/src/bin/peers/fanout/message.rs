//! Messages of a fan-out, as the publisher sends them and as subscribers receive them.

use tidewheel_codec::{
    frame::{FrameHeader, Opcode},
    mask::mask,
};

/// Bytes of a message.
pub(crate) const PAYLOAD_SIZE: usize = 64;

/// Bytes of a server's frame: a header of two bytes without a masking key (RFC 6455 5.2), and the payload.
pub(crate) const FRAME_SIZE: usize = 2 + PAYLOAD_SIZE;

const MASKING_KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn payload(number: u64) -> [u8; PAYLOAD_SIZE] {
    let text = format!("{number:0PAYLOAD_SIZE$}");
    text.into_bytes()
        .try_into()
        .expect("the text is padded to the size")
}

/// Appends the frame of the publisher.
pub(crate) fn write_masked(number: u64, out: &mut Vec<u8>) {
    FrameHeader::new(Opcode::Text, Some(MASKING_KEY), PAYLOAD_SIZE as u64).encode(out);
    let mut payload = payload(number);
    mask(&mut payload, MASKING_KEY);
    out.extend_from_slice(&payload);
}

/// Returns the frame that each subscriber receives.
pub(crate) fn delivered(number: u64) -> [u8; FRAME_SIZE] {
    let mut frame = [0; FRAME_SIZE];
    frame[0] = 0x81;
    frame[1] = PAYLOAD_SIZE as u8;
    frame[2..].copy_from_slice(&payload(number));
    frame
}
