//! Frames that violate RFC 6455 or a limit, and the server's Close.

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

/// Asserts that each violation, on a new connection, gets its code and FIN.
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
        assert!(
            client
                .stream
                .take_error()
                .expect("SO_ERROR can be read")
                .is_none()
        );
    }
    for wanted in [PROTOCOL_ERROR, INVALID_PAYLOAD, TOO_BIG] {
        let of_kind = cases.iter().filter(|it| cause(it.1) == cause(wanted));
        let count = of_kind.count() as u64;
        assert_eq!(server.closes(cause(wanted)), count, "{}", cause(wanted));
    }
    assert_eq!(server.metric("tidewheel_deadline_resets_total", ""), 0);
}

#[test]
fn r14_a_forbidden_frame_header_gets_1002() {
    assert_violations(&violations::headers());
}

#[test]
fn r14_an_invalid_close_gets_1002_or_1007() {
    assert_violations(&violations::closes());
}

#[test]
fn r14_text_that_is_not_utf_8_gets_1007() {
    assert_violations(&violations::texts());
}

#[test]
fn r14_a_message_over_the_limit_gets_1009() {
    assert_violations(&violations::messages());
}

/// Name, bytes that a client sends first, and the messages of the answer.
type Beginning = (&'static str, Vec<u8>, Vec<Vec<u8>>);

fn beginnings() -> [Beginning; 4] {
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
            "a message in fragments",
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
fn r23_answers_are_sent_before_the_close() {
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
                    let got = client.frame();
                    assert!(
                        got == Received::new(FIN | BINARY, answer),
                        "{name}: {got:?}"
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
    // Bytes of earlier connections are read before the Ping of a later one.
    let mut last = Client::open(&server);
    last.send(&frame(PING, b"read?"));
    last.expect(PONG, b"read?");
    let cost = server.memory("VmHWM") - before;
    assert!(
        cost < 4 << 20,
        "{cost} bytes for announced lengths of 90 GB"
    );
}

#[test]
fn r14_a_client_that_ignores_the_close_is_reset_at_c() {
    let server = Server::start("--close-timeout 500ms");
    let mut client = Client::open(&server);
    client.send(&frame(FIN | 0x3, b""));
    let start = wait::now();
    assert_eq!(client.frame().close_code(), PROTOCOL_ERROR);
    assert_eq!(client.end(), End::Fin);
    client.send(&frame(FIN | TEXT, b"hello"));
    server.until_empty(C + SLACK);
    assert!(start.elapsed() >= C - ms(20));
    socket_table::assert_no_orphans_soon(server.port());
}
