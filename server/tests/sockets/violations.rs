//! Frames that break a rule, each with the code that it is answered with.

use std::time::Duration;

use crate::support::{
    SLACK,
    client::{
        BINARY, CLOSE, CONTINUATION, Client, End, FIN, PING, PONG, Received, TEXT, binary, close,
        frame,
    },
    ms,
    process::Server,
    socket_table,
    violations::{self, INVALID_PAYLOAD, PROTOCOL_ERROR, TOO_BIG, Violation, cause},
    wait,
};

const C: Duration = ms(500);

/// The client sends each of these on a connection of its own.
#[track_caller]
fn assert_violations(cases: &[Violation]) {
    let server = Server::start("--close-timeout 500ms");
    for (name, code, bytes) in cases {
        let mut client = Client::open(&server);
        client.send(bytes);
        let start = wait::now();
        let close = client.frame();
        assert_eq!(close.close_code(), *code, "{name}: {close:?}");
        assert_eq!(client.end(), End::Fin, "{name}");
        wait::assert_within(start, C, name);
        client.send(&frame(CLOSE, &close.payload[..2]));
        client.finish();
        server.until_empty(SLACK);
        assert!(client.stream.take_error().expect("an option").is_none());
    }
    for wanted in [PROTOCOL_ERROR, INVALID_PAYLOAD, TOO_BIG] {
        let of_kind = cases.iter().filter(|it| cause(it.1) == cause(wanted));
        let count = of_kind.count() as u64;
        assert_eq!(server.closes(cause(wanted)), count, "{}", cause(wanted));
    }
    assert_eq!(server.metric("tidewheel_deadline_resets_total", ""), 0);
}

#[test]
fn r14_headers_that_break_a_rule() {
    assert_violations(&violations::headers());
}

#[test]
fn r14_close_frames_that_break_a_rule() {
    assert_violations(&violations::closes());
}

#[test]
fn r14_text_that_is_no_utf_8() {
    assert_violations(&violations::texts());
}

#[test]
fn r14_messages_above_the_limit() {
    assert_violations(&violations::messages());
}

/// What a client may send before the end, and the messages that it is answered with.
fn beginnings() -> [(&'static str, Vec<u8>, Vec<Vec<u8>>); 4] {
    let parts = [frame(BINARY, b"in "), frame(FIN | CONTINUATION, b"parts")];
    let many: Vec<Vec<u8>> = (0..100)
        .map(|number: u32| number.to_string().into_bytes())
        .collect();
    let large = vec![7; 100 << 10];
    [
        (
            "one message",
            frame(FIN | BINARY, b"Hello"),
            vec![b"Hello".to_vec()],
        ),
        (
            "a message in parts",
            parts.concat(),
            vec![b"in parts".to_vec()],
        ),
        (
            "100 messages",
            many.iter().flat_map(|message| binary(message)).collect(),
            many,
        ),
        ("a large message", binary(&large), vec![large]),
    ]
}

#[test]
fn r23_answers_leave_before_the_close() {
    let server = Server::start("--close-timeout 500ms --max-message-size 1MiB");
    let mut ends = vec![("Close", 1000, close(1000, "bye"))];
    ends.extend(violations::headers());
    ends.extend(violations::closes());
    ends.extend(violations::texts());
    for (beginning, first, answers) in beginnings() {
        for (end, code, last) in &ends {
            for pieces in [
                vec![[&first[..], last].concat()],
                vec![first.clone(), last.clone()],
            ] {
                let name = format!("{beginning}, then {end}, in {} pieces", pieces.len());
                let mut client = Client::open(&server);
                for piece in &pieces {
                    client.send(piece);
                }
                for answer in &answers {
                    let came = client.frame();
                    assert!(
                        came == Received::new(FIN | BINARY, answer),
                        "{name}: {came:?}"
                    );
                }
                assert_eq!(client.frame().close_code(), *code, "{name}");
                assert_eq!(client.end(), End::Fin, "{name}");
                client.finish();
            }
        }
    }
    server.until_empty(SLACK);
    assert_eq!(server.metric("tidewheel_deadline_resets_total", ""), 0);
}

#[test]
fn r14_an_announced_length_is_never_allocated() {
    let server = Server::start("--max-message-size 1GiB");
    drop(Client::open_many(&server, 10));
    server.until_empty(SLACK);
    let before = server.memory("VmRSS");
    let mut clients = Client::open_many(&server, 100);
    for client in &mut clients {
        let mut bytes = vec![FIN | BINARY, 0xFF];
        bytes.extend(900_000_000_u64.to_be_bytes());
        bytes.extend([0; 4 + 100]);
        client.send(&bytes);
    }
    // Each is read when the one behind it is answered.
    let mut last = Client::open(&server);
    last.send(&frame(PING, b"read?"));
    last.expect(PONG, b"read?");
    let cost = server.memory("VmHWM") - before;
    assert!(cost < 4 << 20, "{cost} bytes for 90 GB announced");
}

#[test]
fn r14_who_ignores_the_close_is_reset_at_c() {
    let server = Server::start("--close-timeout 500ms");
    let mut client = Client::open(&server);
    client.send(&frame(FIN | 0x3, b""));
    let start = wait::now();
    assert_eq!(client.frame().close_code(), PROTOCOL_ERROR);
    assert_eq!(client.end(), End::Fin);
    client.send(&frame(FIN | TEXT, b"what of it"));
    server.until_empty(C + SLACK);
    assert!(start.elapsed() >= C - ms(20));
    socket_table::assert_no_orphans_soon(server.port());
}
