//! R19: a thousand rounds of all ways to end, and nothing is left of them.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    sync::LazyLock,
    time::Duration,
};

use crate::{
    figures::{assert_bytes, tell, time},
    network::{Network, with_network},
    support::{
        SLACK,
        client::{Client, End, FIN, PONG, TEXT, binary, close, frame, text},
        ms,
        process::Server,
        requests, socket_table,
        violations::{self, Violation},
        wait,
    },
};

const ROUNDS: usize = 1000;

/// Rounds that go on side by side.
const ABREAST: usize = 250;

const P: Duration = ms(600);
const T: Duration = ms(400);
const C: Duration = ms(300);

/// Longer than P and T: whoever is idle by then has answered pings.
const IDLE: Duration = ms(1200);

const FLAGS: &str = "--shards 2 --ping-interval 600ms --ping-timeout 400ms --close-timeout 300ms \
                     --handshake-timeout 1s --idle-timeout 1200ms --max-message-rate 20";

/// What the allocator may take more after half of the rounds: what it keeps for reuse grows for a
/// while, and then no more.
const ALLOCATOR: u64 = 8 << 20;

/// The causes that such a server knows which echoes.
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

/// One way to end.
struct Way {
    begins: Begin,
    /// The rest of it, in the round of this number.
    end: fn(Client, usize) -> Left,
}

/// How a client begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Begin {
    Connected,
    Open,
    /// Open, with a receive buffer that is soon full.
    Narrow,
}

/// What is left of a client.
enum Left {
    Nothing,
    /// It stays, reads nothing and says nothing.
    Mute(Client),
    /// It awaits the server's Close in silence, and ends then.
    Patient(Client),
    /// It answers pings, and the server's Close.
    Idle(Client),
}

const WAYS: [Way; 24] = [
    // R1, R3: the client closes, and then ends or does not.
    open(|mut client, _| {
        client.send(&close(1000, ""));
        assert_eq!(client.frame_but_ping().close_code(), 1000);
        assert_eq!(client.end(), End::Fin);
        Left::Nothing
    }),
    open(|mut client, _| {
        client.send(&close(1000, ""));
        assert_eq!(client.frame_but_ping().close_code(), 1000);
        Left::Mute(client)
    }),
    open(|mut client, _| {
        client.send(&close(1000, ""));
        Left::Nothing
    }),
    // R2: bytes behind a Close.
    open(|mut client, _| {
        client.send(&[close(4000, "bye"), binary(&[1; 5000])].concat());
        assert_eq!(client.frame_but_ping().close_code(), 4000);
        assert_eq!(client.end(), End::Fin);
        Left::Nothing
    }),
    // R11: RST and FIN, between messages, in mid-frame and in mid-message.
    open(|client, _| {
        client.reset();
        Left::Nothing
    }),
    open(|mut client, _| {
        client.finish();
        Left::Mute(client)
    }),
    open(|mut client, _| {
        client.send(&binary(&[2; 50_000])[..20_000]);
        client.reset();
        Left::Nothing
    }),
    open(|mut client, _| {
        client.send(&frame(TEXT, b"and then"));
        client.finish();
        Left::Mute(client)
    }),
    // RST in front of what comes back, and in answer to it.
    open(|mut client, _| {
        client.send(&binary(&[3; 600]));
        client.reset();
        Left::Nothing
    }),
    open(|mut client, _| {
        client.send(&text("and gone"));
        Left::Nothing
    }),
    // R14: what breaks the protocol, answered or not.
    open(|mut client, round| {
        violate(&mut client, &VIOLATIONS, round);
        Left::Nothing
    }),
    open(|mut client, round| {
        violate(&mut client, &TEXTS, round);
        Left::Mute(client)
    }),
    open(|mut client, round| {
        violate(&mut client, &TOO_BIG, round);
        Left::Nothing
    }),
    open(|mut client, _| {
        client.send(&frame(0x83, b""));
        Left::Mute(client)
    }),
    // More messages than may come in a second.
    open(|mut client, _| {
        client.send(&text("hurry").repeat(30));
        let mut frame = client.frame_but_ping();
        while frame.first == FIN | TEXT {
            frame = client.frame_but_ping();
        }
        assert_eq!(frame.close_code(), 1008);
        Left::Nothing
    }),
    // R13: no handshake.
    Way {
        begins: Begin::Connected,
        end: |mut client, round| {
            let all = requests::wrong();
            let (status, request) = &all[round % all.len()];
            requests::assert_refused(&mut client, *status, request);
            Left::Nothing
        },
    },
    Way {
        begins: Begin::Connected,
        end: |mut client, round| {
            let all = requests::attacks();
            // It may be answered, and cut, before all of it is sent.
            let _ = client.stream.write_all(&all[round % all.len()]);
            Left::Mute(client)
        },
    },
    Way {
        begins: Begin::Connected,
        end: |client, _| {
            client.reset();
            Left::Nothing
        },
    },
    Way {
        begins: Begin::Connected,
        end: |mut client, _| {
            client.finish();
            Left::Mute(client)
        },
    },
    // R9: it does not read, and the server's socket takes no more; and half a frame.
    Way {
        begins: Begin::Narrow,
        end: |mut client, _| {
            client.send(&binary(&[4; 60_000]).repeat(2));
            Left::Mute(client)
        },
    },
    open(|mut client, _| {
        client.send(&binary(&[5; 40_000])[..30_000]);
        Left::Mute(client)
    }),
    // R5, R6: silence, and an end when the server says so.
    open(|client, _| Left::Mute(client)),
    open(|client, _| Left::Patient(client)),
    // 1001 to who is alive, and has nothing to say.
    open(|client, _| Left::Idle(client)),
];

const fn open(end: fn(Client, usize) -> Left) -> Way {
    let begins = Begin::Open;
    Way { begins, end }
}

static VIOLATIONS: LazyLock<Vec<Violation>> =
    LazyLock::new(|| short([violations::headers(), violations::closes()].concat()));
static TEXTS: LazyLock<Vec<Violation>> = LazyLock::new(|| short(violations::texts()));
static TOO_BIG: LazyLock<Vec<Violation>> = LazyLock::new(|| short(violations::messages()));

/// Those that leave in one segment.
fn short(mut violations: Vec<Violation>) -> Vec<Violation> {
    violations.retain(|(.., bytes)| bytes.len() < 1000);
    violations
}

fn violate(client: &mut Client, violations: &[Violation], round: usize) {
    let (what, code, bytes) = &violations[round % violations.len()];
    client.send(bytes);
    assert_eq!(client.frame_but_ping().close_code(), *code, "{what}");
}

/// What a server holds.
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

    /// Whether it is what was held at the start. By then, an answer of the admin listener may have
    /// been under way, which takes a descriptor.
    fn is_back_at(&self, start: &Self) -> bool {
        let descriptors = self.descriptors.max(start.descriptors);
        Self {
            descriptors,
            ..*self
        } == *start
    }
}

#[test]
fn r19_after_a_thousand_rounds_of_all_ends_nothing_is_left() {
    with_network(|network| {
        let server = network.start(FLAGS);
        // The control plane opens what it needs at the first request.
        server.until_empty(SLACK);
        let start = Holdings::of(&server);
        assert_eq!((start.slots, start.direct_descriptors), (0, Some(0)));
        let opened = WAYS.iter().filter(|way| way.begins != Begin::Connected);
        let opened = opened.count();
        let began = wait::now();
        let mut at_half = 0;
        for first in (0..ROUNDS).step_by(ABREAST) {
            // Every other time, the network is cut under those that stay.
            let is_cut = first / ABREAST % 2 == 1;
            rounds(network, &server, first, is_cut);
            wait::until(IDLE + SLACK, "nothing is left", || {
                Holdings::of(&server).is_back_at(&start)
            });
            let ended = server.metric("tidewheel_closes_total", "");
            assert_eq!(ended, server.metric("tidewheel_opens_total", ""));
            let expected = opened * (first + ABREAST);
            assert_eq!(ended, expected as u64, "each ends once");
            if first + ABREAST == ROUNDS / 2 {
                at_half = server.memory("VmHWM");
            }
        }
        for cause in CAUSES {
            assert!(server.closes(cause) > 0, "none has ended by {cause}");
        }
        let took = time(began.elapsed());
        let (ways, ended) = (WAYS.len(), ROUNDS * WAYS.len());
        tell(
            "R19",
            &format!("{ROUNDS} rounds of {ways} ends, {ended} connections, in {took}"),
        );
        tell("R19", &format!("left of them: {:?}", Holdings::of(&server)));
        // The kernel adds pages up in batches: a peak may be told lower a moment later.
        let grown = server.memory("VmHWM").saturating_sub(at_half);
        let what = "peak memory in the second half of that, above the first:";
        assert_bytes("R19", what, grown, ALLOCATOR);
    });
}

/// Rounds from number `first` on, side by side; those that stay are there until the server ends
/// them.
fn rounds(network: &Network, server: &Server, first: usize, is_cut: bool) {
    let (mut mute, mut patient, mut idle) = (Vec::new(), Vec::new(), Vec::new());
    for way in &WAYS {
        for round in first..first + ABREAST {
            let client = network.clients(|| match way.begins {
                Begin::Connected => Client::connect(server),
                Begin::Open => Client::open(server),
                Begin::Narrow => Client::open_narrow(server),
            });
            match (way.end)(client, round) {
                Left::Nothing => {}
                Left::Mute(client) => mute.push(client),
                Left::Patient(client) => patient.push(client),
                Left::Idle(client) => idle.push(client),
            }
        }
    }
    if is_cut {
        let cut = network.cut();
        server.until_empty_since(cut, P + T + C + SLACK);
        socket_table::assert_no_orphans_soon(server.port());
        network.mend();
        return;
    }
    std::thread::scope(|scope| {
        scope.spawn(|| answer(idle));
        for mut client in patient {
            // Close 1011 and FIN; or RST, if this comes too late.
            let _ = client.rest();
        }
    });
    server.until_empty(P + T + C + SLACK);
    socket_table::assert_no_orphans_soon(server.port());
}

/// Lets clients live until the server closes them with 1001, which they answer.
fn answer(mut clients: Vec<Client>) {
    let mut heard = vec![Vec::new(); clients.len()];
    let is_over = |heard: &mut Vec<u8>, client: &mut Client| {
        let mut chunk = [0; 256];
        match client.stream.read(&mut chunk) {
            Ok(count) => heard.extend(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return true,
        }
        // Pings have a payload of four bytes.
        let pings = heard.chunks(6).take_while(|it| it.starts_with(&[0x89, 4]));
        heard[(6 * pings.count()).min(heard.len())..].starts_with(&[0x88])
    };
    for client in &clients {
        client.stream.set_nonblocking(true).expect("an option");
    }
    wait::until(IDLE + SLACK, "the idle are closed", || {
        for client in &mut clients {
            // Unasked for, and as good as an answer (RFC 6455 5.5.3).
            let _ = client.stream.write(&frame(PONG, b""));
        }
        wait::pause(ms(20));
        let mut at = 0;
        while at < clients.len() {
            if is_over(&mut heard[at], &mut clients[at]) {
                let mut client = clients.swap_remove(at);
                heard.swap_remove(at);
                let _ = client.stream.write(&close(1001, ""));
            } else {
                at += 1;
            }
        }
        clients.is_empty()
    });
}
