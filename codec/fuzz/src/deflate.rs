use tidewheel_codec::Role;

use super::pair::pair;
use super::side::{MESSAGE_SIZE_MAX, Side, config, connect};
use super::trace::receive;

/// Asserts that any compressed payload is a message within the limit or a violation, and that any message
/// survives compression and decompression.
pub fn deflate(bytes: &[u8]) {
    let [options, rest @ ..] = bytes else {
        return;
    };
    let takeover = options & 4 != 0;
    let frames: Vec<u8> = rest
        .chunks(100)
        .flat_map(|payload| frame_of(0xc2, payload))
        .collect();
    let trace = receive(
        &config(Role::Server, true, takeover),
        &frames,
        std::iter::once(frames.len()),
    );
    assert!(
        trace
            .messages
            .iter()
            .all(|message| message.len() <= MESSAGE_SIZE_MAX)
    );

    let commands: Vec<u8> = std::iter::once(options | 2)
        .chain(rest.iter().copied())
        .collect();
    pair(&commands);
    let mut sender = Side::new(config(Role::Client, true, takeover));
    sender.connection = connect(&sender.endpoint);
    let messages: Vec<&[u8]> = rest.chunks(MESSAGE_SIZE_MAX).collect();
    for message in &messages {
        sender
            .connection
            .send_binary(&mut sender.endpoint, message, &mut sender.out)
            .expect("the connection is open");
    }
    let size = sender.out.len();
    let trace = receive(
        &config(Role::Server, true, takeover),
        &sender.out,
        std::iter::once(size),
    );
    assert_eq!(trace.messages, messages);
}

/// Returns a client's frame of at most 125 bytes, masked with zeros.
fn frame_of(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}
