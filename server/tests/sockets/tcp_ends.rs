//! Clients that end TCP without a closing handshake.

use std::io::Write;

use crate::support::{
    SLACK,
    client::{CLOSE, Client, End, REQUEST, binary, close, text},
    ms,
    process::Server,
    socket_table, wait,
};

/// R11: time until all descriptors are released.
const RELEASE_MS_MAX: u64 = 250;

fn open_100(server: &Server) -> Vec<Client> {
    let clients = Client::open_100_in_mid_frame(server);
    server.until_connections(100);
    clients
}

#[test]
fn r11_after_100_resets_all_descriptors_are_released() {
    let server = Server::start("");
    let clients = open_100(&server);
    clients.into_iter().for_each(Client::reset);
    server.until_empty(ms(RELEASE_MS_MAX));
    assert_eq!(server.closes("reset"), 100);
    assert!(
        socket_table::sockets(server.port()).len() <= 2,
        "more sockets than listeners"
    );
}

#[test]
fn r11_after_100_bare_fins_all_descriptors_are_released() {
    let server = Server::start("");
    let mut clients = open_100(&server);
    clients.iter_mut().for_each(Client::finish);
    server.until_empty(ms(RELEASE_MS_MAX));
    assert_eq!(server.closes("eof_without_close"), 100);
    for client in &mut clients {
        assert_eq!(
            client.end(),
            End::Fin,
            "the server did not answer FIN with FIN"
        );
    }
    socket_table::assert_no_orphans_soon(server.port());
}

/// The clients send FIN, and reset the connection while the echo is being sent, as when a process ends.
#[test]
fn r11_after_20_resets_behind_fins_all_descriptors_are_released() {
    let server = Server::start("--close-timeout 30s");
    let mut clients: Vec<Client> = (0..20)
        .map(|_| Client::open_with_small_buffer(&server))
        .collect();
    for client in &mut clients {
        // The server's kernel takes the whole echo, the client's kernel a part.
        client.send(&binary(&[1; 100_000]));
        client.finish();
    }
    wait::until(SLACK, "all echoes are being sent", || {
        let is_sending =
            |client: &Client| socket_table::socket(server.port(), client.port()).unsent > 0;
        clients.iter().all(is_sending) && server.closes("eof_without_close") == 20
    });
    clients.into_iter().for_each(Client::reset);
    server.until_empty(ms(RELEASE_MS_MAX));
    socket_table::assert_no_orphans_soon(server.port());
}

#[test]
fn r11_a_message_before_a_fin_is_answered() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.send(&[REQUEST.as_bytes(), &text("hello")].concat());
    client.finish();
    client.accept();
    client.expect(0x81, "hello");
    assert_eq!(client.end(), End::Fin);
    server.until_empty(SLACK);
}

#[test]
fn r19_descriptors_slots_and_memory_return_to_their_values_at_the_start() {
    let server = Server::start(
        "--shards 2 --ping-interval 300ms --ping-timeout 200ms --close-timeout 300ms \
         --handshake-timeout 300ms",
    );
    // The first request makes the control plane open its descriptors.
    server.until_empty(SLACK);
    let descriptors = server.descriptors();
    assert_eq!(server.direct_descriptors(), Some(0));
    let mut memory = Vec::new();
    for round in 0..5 {
        let mut clients = Client::open_many(&server, 80);
        wait::until(ms(2000), "each connection has a direct descriptor", || {
            server.direct_descriptors() == Some(80)
        });
        let held = server.descriptors();
        assert!(
            held <= descriptors + 2,
            "connections take descriptors of the process: {held}, {descriptors} before"
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
                    assert_eq!(client.frame_except_ping().first, CLOSE);
                }
                5 => {
                    // The client does not read the echo. In the last round it is larger than the
                    // socket's buffers.
                    let count = if round < 4 { 1 } else { 2000 };
                    // Fails on a busy machine, if the connection's deadline passes first.
                    let _ = client.stream.write_all(&binary(&[3; 600]).repeat(count));
                    client.reset();
                }
                6 => client.send(&text("hello")),
                _ => staying.push(client),
            }
        }
        let _without_request: Vec<_> = (0..20).map(|_| Client::connect(&server)).collect();
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
        assert_eq!(ended, (round + 1) * 80, "each connection ends once");
    }
    let grown = memory[3].saturating_sub(memory[1]);
    assert!(
        grown < 1 << 20,
        "memory grows from round to round: {memory:?}"
    );
}
