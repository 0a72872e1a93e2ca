//! Frames that violate RFC 6455 or a limit.

use std::time::Duration;

use crate::{
    many_clients,
    measurements::{assert_bytes, assert_gone, assert_within, report},
    network::with_network,
    support::{
        SLACK,
        client::{BINARY, Client, End, FIN, PING, PONG, frame},
        ms,
        violations::{self, INVALID_PAYLOAD, PROTOCOL_ERROR, TOO_BIG, cause},
        wait,
    },
};

const C: Duration = ms(1000);

#[test]
fn r14_an_invalid_frame_gets_its_code_and_fin_within_c() {
    with_network(|network| {
        let server = network.start("--close-timeout 1s");
        let cases: Vec<_> = [
            violations::headers(),
            violations::closes(),
            violations::texts(),
            violations::messages(),
        ]
        .concat();
        let mut clients = many_clients::open(network, &server, cases.len());
        let start = wait::now();
        let mut slowest = Duration::ZERO;
        for ((name, code, bytes), client) in cases.iter().zip(&mut clients) {
            client.send(bytes);
            let sent = wait::now();
            assert_eq!(client.frame().close_code(), *code, "{name}");
            assert_eq!(client.end(), End::Fin, "{name}");
            slowest = slowest.max(sent.elapsed());
        }
        let of = |code| cases.iter().filter(|case| case.1 == code).count();
        let what = format!(
            "{} invalid frames: {} x 1002, {} x 1007, {} x 1009",
            cases.len(),
            of(PROTOCOL_ERROR),
            of(INVALID_PAYLOAD),
            of(TOO_BIG)
        );
        report("R14", &what);
        assert_within(
            "R14",
            "invalid frames: Close and FIN, the last after",
            slowest,
            C,
        );
        // No client answers or sends FIN.
        let last = wait::now();
        wait::assert_within(start, C, "no connection has been reset yet");
        assert_gone("R14", "invalid frames", &server, last, C + SLACK);
        for code in [PROTOCOL_ERROR, TOO_BIG] {
            let same = cases.iter().filter(|case| cause(case.1) == cause(code));
            assert_eq!(server.closes(cause(code)), same.count() as u64);
        }
    });
}

#[test]
fn r14_an_announced_length_is_never_allocated() {
    with_network(|network| {
        let server = network.start("--max-message-size 1GiB");
        drop(network.clients(|| Client::open_many(&server, 10)));
        server.until_empty(SLACK);
        let before = server.memory("VmRSS");
        let mut clients = many_clients::open(network, &server, 101);
        let mut bytes = vec![FIN | BINARY, 0xFF];
        bytes.extend(900_000_000_u64.to_be_bytes());
        bytes.extend([0; 4 + 100]);
        for client in &mut clients[..100] {
            client.send(&bytes);
        }
        // The server has read all frames of the others when it answers this Ping.
        clients[100].send(&frame(PING, b"read?"));
        clients[100].expect(PONG, b"read?");
        let cost = server.memory("VmHWM").saturating_sub(before);
        assert_bytes("R14", "announced lengths of 90 GB cost", cost, 4 << 20);
    });
}
