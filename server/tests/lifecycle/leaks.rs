//! R19: after 1,000 rounds of all kinds of ends, no resource is held.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    sync::LazyLock,
    time::Duration,
};

use crate::{
    measurements::{assert_bytes, report, time},
    network::{Network, with_network},
    support::{
        SLACK,
        client::{Client, End, FIN, PONG, TEXT, binary, close, frame, text},
        invalid_requests, ms,
        process::Server,
        socket_table,
        violations::{self, Violation},
        wait,
    },
};

const ROUNDS: usize = 1000;

/// Number of rounds at the same time.
const ROUNDS_AT_ONCE: usize = 250;

const P: Duration = ms(600);
const T: Duration = ms(400);
const C: Duration = ms(300);

/// Idle timeout, longer than P + T: a client has answered Pings before it expires.
const IDLE: Duration = ms(1200);

const FLAGS: &str = "--shards 2 --ping-interval 600ms --ping-timeout 400ms --close-timeout 300ms \
                     --handshake-timeout 1s --idle-timeout 1200ms --max-message-rate 20";

/// Bound of the growth in the second half of the rounds, for memory that the allocator keeps for reuse.
const ALLOCATOR_BYTES_MAX: u64 = 8 << 20;

/// The causes that an echo server with these flags can report.
const CAUSES: [&str; 8] = [
    "peer_close",
    "ping_timeout",
    "idle_timeout",
    "eof_without_close",
    "reset",
    "protocol_error",
    "too_big",
    "message_rate",
];

/// A kind of end.
struct Ending {
    begins: Begin,
    /// Ends the client; takes the number of the round.
    end: fn(Client, usize) -> Remaining,
}

/// The state of a client before its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Begin {
    Connected,
    Open,
    /// Open, with a small receive buffer.
    OpenWithSmallBuffer,
}

/// A client that does more, or stays, after its end.
enum Remaining {
    Nothing,
    /// Neither reads nor sends, until the server ends the connection.
    Silent(Client),
    /// Sends nothing, and reads until the server ends the connection.
    AwaitsClose(Client),
    /// Answers Pings and the server's Close.
    AnswersPings(Client),
}

const ENDINGS: [Ending; 24] = [
    // R1, R3: the client closes, and sends FIN or not.
    open(|mut client, _| {
        client.send(&close(1000, ""));
        assert_eq!(client.frame_except_ping().close_code(), 1000);
        assert_eq!(client.end(), End::Fin);
        Remaining::Nothing
    }),
    open(|mut client, _| {
        client.send(&close(1000, ""));
        assert_eq!(client.frame_except_ping().close_code(), 1000);
        Remaining::Silent(client)
    }),
    open(|mut client, _| {
        client.send(&close(1000, ""));
        Remaining::Nothing
    }),
    // R2: bytes behind a Close.
    open(|mut client, _| {
        client.send(&[close(4000, "bye"), binary(&[1; 5000])].concat());
        assert_eq!(client.frame_except_ping().close_code(), 4000);
        assert_eq!(client.end(), End::Fin);
        Remaining::Nothing
    }),
    // R11: RST and FIN, between messages, within a frame and between fragments.
    open(|client, _| {
        client.reset();
        Remaining::Nothing
    }),
    open(|mut client, _| {
        client.finish();
        Remaining::Silent(client)
    }),
    open(|mut client, _| {
        client.send(&binary(&[2; 50_000])[..20_000]);
        client.reset();
        Remaining::Nothing
    }),
    open(|mut client, _| {
        client.send(&frame(TEXT, b"hello"));
        client.finish();
        Remaining::Silent(client)
    }),
    // RST before the echo, and in response to it.
    open(|mut client, _| {
        client.send(&binary(&[3; 600]));
        client.reset();
        Remaining::Nothing
    }),
    open(|mut client, _| {
        client.send(&text("hello"));
        Remaining::Nothing
    }),
    // R14: violations; the client reads the Close, and sends FIN or not.
    open(|mut client, round| {
        violate(&mut client, &VIOLATIONS, round);
        Remaining::Nothing
    }),
    open(|mut client, round| {
        violate(&mut client, &TEXTS, round);
        Remaining::Silent(client)
    }),
    open(|mut client, round| {
        violate(&mut client, &TOO_BIG, round);
        Remaining::Nothing
    }),
    open(|mut client, _| {
        client.send(&frame(0x83, b""));
        Remaining::Silent(client)
    }),
    // More messages than `--max-message-rate` allows.
    open(|mut client, _| {
        client.send(&text("hello").repeat(30));
        let mut frame = client.frame_except_ping();
        while frame.first == FIN | TEXT {
            frame = client.frame_except_ping();
        }
        assert_eq!(frame.close_code(), 1008);
        Remaining::Nothing
    }),
    // R13: invalid and incomplete handshakes.
    Ending {
        begins: Begin::Connected,
        end: |mut client, round| {
            let all = invalid_requests::all();
            let (status, request) = &all[round % all.len()];
            invalid_requests::assert_refused(&mut client, *status, request);
            Remaining::Nothing
        },
    },
    Ending {
        begins: Begin::Connected,
        end: |mut client, round| {
            let all = invalid_requests::unfinished();
            // Fails if the server responds and closes before everything is sent.
            let _ = client.stream.write_all(&all[round % all.len()]);
            Remaining::Silent(client)
        },
    },
    Ending {
        begins: Begin::Connected,
        end: |client, _| {
            client.reset();
            Remaining::Nothing
        },
    },
    Ending {
        begins: Begin::Connected,
        end: |mut client, _| {
            client.finish();
            Remaining::Silent(client)
        },
    },
    // R9: the client does not read until the server's socket is not writable; and half a frame.
    Ending {
        begins: Begin::OpenWithSmallBuffer,
        end: |mut client, _| {
            client.send(&binary(&[4; 60_000]).repeat(2));
            Remaining::Silent(client)
        },
    },
    open(|mut client, _| {
        client.send(&binary(&[5; 40_000])[..30_000]);
        Remaining::Silent(client)
    }),
    // R5, R6: silence until the ping timeout, with and without an answer.
    open(|client, _| Remaining::Silent(client)),
    open(|client, _| Remaining::AwaitsClose(client)),
    // Idle timeout.
    open(|client, _| Remaining::AnswersPings(client)),
];

const fn open(end: fn(Client, usize) -> Remaining) -> Ending {
    let begins = Begin::Open;
    Ending { begins, end }
}

static VIOLATIONS: LazyLock<Vec<Violation>> =
    LazyLock::new(|| short([violations::headers(), violations::closes()].concat()));
static TEXTS: LazyLock<Vec<Violation>> = LazyLock::new(|| short(violations::texts()));
static TOO_BIG: LazyLock<Vec<Violation>> = LazyLock::new(|| short(violations::messages()));

/// Returns the violations that fit into one segment.
fn short(mut violations: Vec<Violation>) -> Vec<Violation> {
    violations.retain(|(.., bytes)| bytes.len() < 1000);
    violations
}

fn violate(client: &mut Client, violations: &[Violation], round: usize) {
    let (what, code, bytes) = &violations[round % violations.len()];
    client.send(bytes);
    assert_eq!(client.frame_except_ping().close_code(), *code, "{what}");
}

/// The resources that a server holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Holdings {
    slots: u64,
    timer_entries: u64,
    receive_buffers: u64,
    queued_bytes: u64,
    subscriptions: u64,
    descriptors: usize,
    direct_descriptors: Option<usize>,
}

impl Holdings {
    fn of(server: &Server) -> Self {
        Self {
            slots: server.connections(),
            timer_entries: server.metric("tidewheel_timer_entries", ""),
            receive_buffers: server.metric("tidewheel_receive_buffers_held", ""),
            queued_bytes: server.metric("tidewheel_send_queue_bytes", ""),
            subscriptions: server.metric("tidewheel_subscriptions", ""),
            descriptors: server.descriptors(),
            direct_descriptors: server.direct_descriptors(),
        }
    }

    /// Returns whether no more is held than at the start. A response of the admin listener may have held a
    /// descriptor at the start.
    fn equals(&self, start: &Self) -> bool {
        let descriptors = self.descriptors.max(start.descriptors);
        Self {
            descriptors,
            ..*self
        } == *start
    }
}

#[test]
fn r19_after_1_000_rounds_of_all_ends_no_resource_is_held() {
    with_network(|network| {
        let server = network.start(FLAGS);
        // The first request makes the control plane open its descriptors.
        server.until_empty(SLACK);
        let start = Holdings::of(&server);
        assert_eq!((start.slots, start.direct_descriptors), (0, Some(0)));
        let opened = ENDINGS
            .iter()
            .filter(|ending| ending.begins != Begin::Connected);
        let opened = opened.count();
        let began = wait::now();
        let mut at_half = 0;
        for first in (0..ROUNDS).step_by(ROUNDS_AT_ONCE) {
            // Every other time, the network is cut while clients remain.
            let is_cut = first / ROUNDS_AT_ONCE % 2 == 1;
            run_rounds(network, &server, first, is_cut);
            wait::until(
                IDLE + SLACK,
                "the server holds no more than at the start",
                || Holdings::of(&server).equals(&start),
            );
            let ended = server.metric("tidewheel_closes_total", "");
            assert_eq!(ended, server.metric("tidewheel_opens_total", ""));
            let expected = opened * (first + ROUNDS_AT_ONCE);
            assert_eq!(ended, expected as u64, "each connection ends once");
            if first + ROUNDS_AT_ONCE == ROUNDS / 2 {
                at_half = server.memory("VmHWM");
            }
        }
        for cause in CAUSES {
            assert!(
                server.closes(cause) > 0,
                "no connection has ended with {cause}"
            );
        }
        let took = time(began.elapsed());
        let (kinds, ended) = (ENDINGS.len(), ROUNDS * ENDINGS.len());
        report(
            "R19",
            &format!("{ROUNDS} rounds of {kinds} kinds of ends, {ended} connections, in {took}"),
        );
        report(
            "R19",
            &format!("held afterwards: {:?}", Holdings::of(&server)),
        );
        // Saturating: the kernel counts pages in batches, so that a later peak may be lower.
        let grown = server.memory("VmHWM").saturating_sub(at_half);
        let what = "growth of the peak memory in the second half of the rounds:";
        assert_bytes("R19", what, grown, ALLOCATOR_BYTES_MAX);
    });
}

/// Runs [`ROUNDS_AT_ONCE`] rounds from number `first`, and waits until the server has ended all connections.
fn run_rounds(network: &Network, server: &Server, first: usize, is_cut: bool) {
    let (mut silent, mut awaiting, mut answering) = (Vec::new(), Vec::new(), Vec::new());
    for ending in &ENDINGS {
        for round in first..first + ROUNDS_AT_ONCE {
            let client = network.clients(|| match ending.begins {
                Begin::Connected => Client::connect(server),
                Begin::Open => Client::open(server),
                Begin::OpenWithSmallBuffer => Client::open_with_small_buffer(server),
            });
            match (ending.end)(client, round) {
                Remaining::Nothing => {}
                Remaining::Silent(client) => silent.push(client),
                Remaining::AwaitsClose(client) => awaiting.push(client),
                Remaining::AnswersPings(client) => answering.push(client),
            }
        }
    }
    if is_cut {
        let cut = network.cut();
        server.until_empty_since(cut, P + T + C + SLACK);
        socket_table::assert_no_orphans_soon(server.port());
        network.restore();
        return;
    }
    std::thread::scope(|scope| {
        scope.spawn(|| answer(answering));
        for mut client in awaiting {
            // Close 1011 and FIN, or RST if the client reads too late.
            let _ = client.rest();
        }
    });
    server.until_empty(P + T + C + SLACK);
    socket_table::assert_no_orphans_soon(server.port());
}

/// Sends Pongs until the server closes the clients with 1001, and answers the Closes.
fn answer(mut clients: Vec<Client>) {
    let mut received = vec![Vec::new(); clients.len()];
    let is_over = |received: &mut Vec<u8>, client: &mut Client| {
        let mut chunk = [0; 256];
        match client.stream.read(&mut chunk) {
            Ok(count) => received.extend(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return true,
        }
        // Pings have a payload of four bytes.
        let pings = received
            .chunks(6)
            .take_while(|it| it.starts_with(&[0x89, 4]));
        received[(6 * pings.count()).min(received.len())..].starts_with(&[0x88])
    };
    for client in &clients {
        client
            .stream
            .set_nonblocking(true)
            .expect("O_NONBLOCK can be set");
    }
    wait::until(IDLE + SLACK, "idle clients get a Close", || {
        for client in &mut clients {
            // An unsolicited Pong keeps the connection alive as well (RFC 6455 5.5.3).
            let _ = client.stream.write(&frame(PONG, b""));
        }
        wait::pause(ms(20));
        let mut at = 0;
        while at < clients.len() {
            if is_over(&mut received[at], &mut clients[at]) {
                let mut client = clients.swap_remove(at);
                received.swap_remove(at);
                let _ = client.stream.write(&close(1001, ""));
            } else {
                at += 1;
            }
        }
        clients.is_empty()
    });
}
