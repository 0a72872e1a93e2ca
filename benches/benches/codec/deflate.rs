//! permessage-deflate at level 1 without context takeover, compared with direct calls of flate2 on zlib-rs.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use tidewheel_codec::deflate::Deflate;
use tidewheel_codec::{Config, Connection, Endpoint, Event, Role, Time};

use crate::comparison::{Candidate, print_table};

/// End of a flush, which a message leaves out (RFC 7692 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

pub fn run(rounds: usize) {
    for size in [1 << 10, 16 << 10] {
        let text = json(size);
        let messages = (1 << 18) / size;
        compress(&text, messages, rounds);
        decompress(&text, messages, rounds);
    }
}

/// Returns a JSON text of similar objects.
fn json(size: usize) -> String {
    let mut text = String::new();
    for i in 0_u32.. {
        let (price, volume) = (
            i.wrapping_mul(2_654_435_761) % 100_000,
            i.wrapping_mul(40_503) % 1000,
        );
        text += &format!(
            "{{\"symbol\":\"TIDE{}\",\"price\":{price},\"volume\":{volume}}},",
            i % 50
        );
        if text.len() >= size {
            break;
        }
    }
    text.truncate(size);
    text
}

fn endpoint(role: Role) -> (Endpoint, Connection) {
    let mut config = Config::new(role);
    config.deflate = Some(Deflate::default());
    let endpoint = Endpoint::new(config).expect("the configuration is valid");
    let none = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let agreement = match role {
        Role::Server => endpoint.accept_deflate([none]),
        Role::Client => endpoint
            .confirm_deflate([none])
            .expect("the response fits the offer"),
    };
    let connection = Connection::new(Time::from_millis(0), 0);
    let connection = connection.with_deflate(agreement.expect("the offer is acceptable"));
    (endpoint, connection)
}

fn compress(text: &str, messages: usize, rounds: usize) {
    let (mut server, mut connection) = endpoint(Role::Server);
    let mut out = Vec::new();
    let mut direct = Compress::new(Compression::new(1), false);
    let mut direct_out = Vec::with_capacity(2 * text.len());
    let mut candidates = [
        Candidate::new("tidewheel", || {
            for _ in 0..messages {
                out.clear();
                connection
                    .send_text(&mut server, text, &mut out)
                    .expect("the connection is open");
                assert!(out[0] == 0xc1 && out.len() < text.len());
            }
            messages
        }),
        Candidate::new("flate2", || {
            for _ in 0..messages {
                direct_out.clear();
                direct.reset();
                direct
                    .compress_vec(text.as_bytes(), &mut direct_out, FlushCompress::Sync)
                    .expect("flate2 compresses");
                assert!(direct_out.len() < text.len() && direct_out.ends_with(&TAIL));
            }
            messages
        }),
    ];
    print_table(
        &format!("compress, {} bytes", text.len()),
        rounds,
        &mut candidates,
    );
}

fn decompress(text: &str, messages: usize, rounds: usize) {
    let (mut server, mut connection) = endpoint(Role::Client);
    let mut wire = Vec::new();
    connection
        .send_text(&mut server, text, &mut wire)
        .expect("the connection is open");
    let (mut receiver, mut receiving) = endpoint(Role::Server);
    let (mut buffer, mut out) = (wire.clone(), Vec::new());
    let mut direct = Decompress::new(false);
    let mut compressed = Vec::with_capacity(2 * text.len());
    let mut compressor = Compress::new(Compression::new(1), false);
    compressor
        .compress_vec(text.as_bytes(), &mut compressed, FlushCompress::Sync)
        .expect("flate2 compresses");
    let mut received = compressed.clone();
    let mut direct_out = Vec::with_capacity(2 * text.len());
    let mut candidates = [
        Candidate::new("tidewheel", || {
            for _ in 0..messages {
                buffer.copy_from_slice(&wire);
                let mut input = receiving.receive(&mut buffer, Time::from_millis(1));
                let event = receiving.poll_event(&mut receiver, &mut input, &mut out);
                assert!(
                    matches!(event, Some(Event::Message(message)) if message.len() == text.len())
                );
            }
            messages
        }),
        // Includes the copy of received bytes and the validation of UTF-8, which every server needs.
        Candidate::new("flate2", || {
            for _ in 0..messages {
                received.copy_from_slice(&compressed);
                direct_out.clear();
                direct.reset(false);
                direct
                    .decompress_vec(&received, &mut direct_out, FlushDecompress::Sync)
                    .expect("flate2 decompresses");
                assert!(
                    simdutf8::basic::from_utf8(&direct_out)
                        .is_ok_and(|direct| direct.len() == text.len())
                );
            }
            messages
        }),
    ];
    print_table(
        &format!("decompress, {} bytes", text.len()),
        rounds,
        &mut candidates,
    );
}
