//! Clients that go without a word, and what is left of them: nothing.

use std::io::Write;

use crate::support::{
    SLACK,
    client::{CLOSE, Client, End, REQUEST, binary, close, text},
    ms,
    process::Server,
    socket_table, wait,
};

/// R11
const GONE_WITHIN_MS: u64 = 250;

fn hundred(server: &Server) -> Vec<Client> {
    let clients = Client::hundred_in_mid_frame(server);
    server.until_connections(100);
    clients
}

#[test]
fn r11_a_hundred_resets_leave_nothing() {
    let server = Server::start("");
    let clients = hundred(&server);
    clients.into_iter().for_each(Client::reset);
    server.until_empty(ms(GONE_WITHIN_MS));
    assert_eq!(server.closes("reset"), 100);
    assert!(socket_table::sockets(server.port()).len() <= 2, "listeners");
}

#[test]
fn r11_a_hundred_bare_fins_leave_nothing() {
    let server = Server::start("");
    let mut clients = hundred(&server);
    clients.iter_mut().for_each(Client::finish);
    server.until_empty(ms(GONE_WITHIN_MS));
    assert_eq!(server.closes("eof_without_close"), 100);
    for client in &mut clients {
        assert_eq!(client.end(), End::Fin, "a FIN is answered by a FIN");
    }
    socket_table::assert_no_orphans_soon(server.port());
}

/// Clients that end their direction, and reset while the answer is under way, as by the end of their process.
#[test]
fn r11_resets_behind_fins_leave_nothing() {
    let server = Server::start("--close-timeout 30s");
    let mut clients: Vec<Client> = (0..20).map(|_| Client::open_narrow(&server)).collect();
    for client in &mut clients {
        // The kernel takes all of the answer, and the client a part.
        client.send(&binary(&[1; 100_000]));
        client.finish();
    }
    wait::until(SLACK, "the answers are under way", || {
        let begun = |client: &Client| socket_table::held(server.port(), client.port()).unsent > 0;
        clients.iter().all(begun) && server.closes("eof_without_close") == 20
    });
    clients.into_iter().for_each(Client::reset);
    server.until_empty(ms(GONE_WITHIN_MS));
    socket_table::assert_no_orphans_soon(server.port());
}

#[test]
fn r11_what_came_before_a_fin_is_still_answered() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.send(&[REQUEST.as_bytes(), &text("last words")].concat());
    client.finish();
    client.accept();
    client.expect(0x81, "last words");
    assert_eq!(client.end(), End::Fin);
    server.until_empty(SLACK);
}

#[test]
fn r19_descriptors_and_slots_return_to_the_start() {
    let server = Server::start(
        "--shards 2 --ping-interval 300ms --ping-timeout 200ms --close-timeout 300ms \
         --handshake-timeout 300ms",
    );
    // The control plane and the runtime behind it open what they need at the first request.
    server.until_empty(SLACK);
    let descriptors = server.descriptors();
    assert_eq!(server.direct_descriptors(), Some(0));
    let mut memory = Vec::new();
    for round in 0..5 {
        let mut clients = Client::open_many(&server, 80);
        wait::until(ms(2000), "each has a direct descriptor", || {
            server.direct_descriptors() == Some(80)
        });
        let held = server.descriptors();
        assert!(
            held <= descriptors + 2,
            "connections take none of the process, which holds {held} after {descriptors}"
        );
        let mut staying = Vec::new();
        for (kind, mut client) in (0..8).cycle().zip(clients.drain(..)) {
            match kind {
                0 => client.reset(),
                1 => client.finish(),
                2 => client.send(&close(1000, "")),
                3 => client.send(&[0xC1, 0x80, 0, 0, 0, 0]),
                4 => {
                    client.send(&close(1000, ""));
                    assert_eq!(client.frame_but_ping().first, CLOSE);
                }
                5 => {
                    // It does not read what comes back.
                    // In the last round, more than the socket takes back.
                    let count = if round < 4 { 1 } else { 2000 };
                    // On a busy machine, its deadline may come first.
                    let _ = client.stream.write_all(&binary(&[3; 600]).repeat(count));
                    client.reset();
                }
                6 => client.send(&text("and gone")),
                _ => staying.push(client),
            }
        }
        let _asking_nothing: Vec<_> = (0..20).map(|_| Client::connect(&server)).collect();
        server.until_empty(ms(300 + 200 + 300) + SLACK);
        wait::until(SLACK, "no direct descriptor is left", || {
            server.direct_descriptors() == Some(0)
        });
        wait::until(SLACK, "no descriptor is left", || {
            server.descriptors() <= descriptors
        });
        socket_table::assert_no_orphans_soon(server.port());
        memory.push(server.memory("VmRSS"));
        let ended: u64 = server.metric("tidewheel_closes_total", "");
        assert_eq!(ended, (round + 1) * 80, "each ends once");
    }
    let grown = memory[3].saturating_sub(memory[1]);
    assert!(grown < 1 << 20, "memory grows round by round: {memory:?}");
}
