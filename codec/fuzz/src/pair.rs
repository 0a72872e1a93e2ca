use tidewheel_codec::{Connection, Event, Role, Time, Transmit};

use super::side::{Side, config};

/// Asserts that messages between two sides arrive complete and in order, and that both sides end once, with
/// codes that match.
///
/// The first byte chooses the extension. Each further byte is a command.
pub fn pair(bytes: &[u8]) {
    let [options, commands @ ..] = bytes else {
        return;
    };
    let mut sides = [Role::Client, Role::Server]
        .map(|role| Side::new(config(role, options & 2 != 0, options & 4 != 0)));
    let offer = sides[0].endpoint.offer_deflate();
    if let Some(agreement) = sides[1].endpoint.accept_deflate(offer.as_deref()) {
        let accepted = agreement.to_string();
        let confirmed = sides[0]
            .endpoint
            .confirm_deflate([accepted.as_str()])
            .expect("the response matches the offer");
        let agreements = [confirmed.expect("the server accepted"), agreement];
        for (side, agreement) in sides.iter_mut().zip(agreements) {
            side.connection = Connection::new(Time::from_millis(0), 0).with_deflate(agreement);
        }
    }
    let mut now = Time::from_millis(0);
    for &command in commands {
        let side = usize::from(command & 1);
        let size = usize::from(command >> 4) * 23;
        match (command >> 1) & 7 {
            0 | 1 => sides[side].send_text(size),
            2 => sides[side].send_binary(size),
            3 => {
                let Side {
                    connection,
                    endpoint,
                    out,
                    ..
                } = &mut sides[side];
                // An error after the end. `deliver` would fail if the ping was sent.
                let _ = connection.ping(endpoint, &[command; 15][..size % 16], out);
            }
            4 => sides[side].close(now),
            5 => {
                now = Time::from_millis(now.as_millis() + size as u64 * 50);
                for side in &mut sides {
                    side.connection
                        .handle_timeout(&mut side.endpoint, &mut side.out, now);
                    side.take_disconnect();
                }
            }
            _ => deliver(&mut sides, side, size, now),
        }
    }
    for _ in 0..4 {
        deliver(&mut sides, 0, usize::MAX, now);
        deliver(&mut sides, 1, usize::MAX, now);
    }
    let is_reset = sides
        .iter()
        .any(|side| side.connection.poll_transmit() == Transmit::Reset);
    if !is_reset {
        assert_eq!(sides[0].disconnect.is_some(), sides[1].disconnect.is_some());
        for (from, to) in [(0, 1), (1, 0)] {
            if sides[to].disconnect.is_none() {
                assert_eq!(sides[to].received, sides[from].sent);
            } else {
                assert!(sides[from].sent.starts_with(&sides[to].received));
            }
        }
    }
}

/// Moves at most `size` bytes from side `from` to the other.
fn deliver(sides: &mut [Side; 2], from: usize, size: usize, now: Time) {
    let size = size.min(sides[from].out.len());
    let mut bytes: Vec<u8> = sides[from].out.drain(..size).collect();
    let to = &mut sides[1 - from];
    let mut input = to.connection.receive(&mut bytes, now);
    while let Some(event) = to
        .connection
        .poll_event(&mut to.endpoint, &mut input, &mut to.out)
    {
        if let Event::Message(message) = event {
            to.received.push(message.payload().to_vec());
        }
    }
    to.take_disconnect();
}
