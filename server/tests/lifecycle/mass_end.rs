//! Many clients that end at once.

use std::time::Duration;

use crate::{
    many_clients,
    measurements::{assert_gone, assert_within, report, time},
    network::with_network,
    support::{
        client::{Client, End, close},
        ms, sock_diag,
        socket_table::{self, State},
        wait,
    },
};

const P: Duration = ms(2000);
const T: Duration = ms(1000);
const C: Duration = ms(1000);

/// R11: ends 100 clients with `end`, a quarter of them in each state of a message, and asserts the time until
/// their descriptors are released. `end` returns the clients whose FIN is to be answered.
fn end_100(what: &str, cause: &str, end: impl Fn(Vec<Client>) -> Vec<Client> + Send + Sync) {
    with_network(|network| {
        let server = network.start("");
        let clients = network.clients(|| Client::open_100_in_mid_frame(&server));
        server.until_connections(100);
        let start = wait::now();
        let mut finished = end(clients);
        let what = format!("100 {what}, 75 of them within a frame");
        assert_gone("R11", &what, &server, start, ms(250));
        assert_eq!(server.closes(cause), 100);
        for client in &mut finished {
            assert_eq!(
                client.end(),
                End::Fin,
                "the server did not answer FIN with FIN"
            );
        }
    });
}

#[test]
fn r11_after_100_resets_all_descriptors_are_released_within_250_ms() {
    end_100("RST", "reset", |clients| {
        clients.into_iter().for_each(Client::reset);
        Vec::new()
    });
}

#[test]
fn r11_after_100_bare_fins_all_descriptors_are_released_within_250_ms() {
    end_100("bare FIN", "eof_without_close", |mut clients| {
        clients.iter_mut().for_each(Client::finish);
        clients
    });
}

const COUNT: usize = 10_000;

#[test]
fn r15_10_000_closing_handshakes_at_once_complete_with_1000_and_fin() {
    const C: Duration = ms(2000);
    with_network(|network| {
        let server = network.start("--close-timeout 2s");
        let mut clients = many_clients::open(network, &server, COUNT);
        let bytes = close(1000, "");
        let start = wait::now();
        let mut sent = Vec::with_capacity(COUNT);
        for client in &mut clients {
            sent.push(wait::now());
            client.send(&bytes);
        }
        let sending = start.elapsed();
        let mut slowest = Duration::ZERO;
        for (client, sent) in clients.iter_mut().zip(&sent) {
            assert_eq!(client.frame().close_code(), 1000);
            assert_eq!(client.end(), End::Fin);
            slowest = slowest.max(sent.elapsed());
        }
        report(
            "R15",
            &format!("10,000 Closes sent within {}", time(sending)),
        );
        let what = "10,000 Closes: 10,000 x 1000 and FIN, the last after";
        assert_within("R15", what, slowest, C);
        assert_eq!(server.closes("peer_close"), COUNT as u64);
        assert_eq!(server.metric("tidewheel_deadline_resets_total", ""), 0);
        drop(clients);
        server.until_empty(C);
        assert_eq!(socket_table::orphans(server.port()), 0);
        let states = [State::TimeWait, State::FinWait2];
        assert_eq!(sock_diag::count(server.port(), &states), COUNT);
    });
}

#[test]
fn r15_10_000_resets_at_once_leave_no_connection() {
    with_network(|network| {
        let server = network.start("");
        let clients = many_clients::open(network, &server, COUNT);
        let start = wait::now();
        clients.into_iter().for_each(Client::reset);
        report(
            "R15",
            &format!("10,000 RSTs sent within {}", time(start.elapsed())),
        );
        let what = "10,000 RSTs, since the first";
        assert_gone("R15", what, &server, start, ms(1000));
        assert_eq!(server.closes("reset"), COUNT as u64);
    });
}

#[test]
fn r15_10_000_connections_without_a_network_are_gone_after_p_plus_t_plus_c() {
    with_network(|network| {
        let server = network.start("--ping-interval 2s --ping-timeout 1s --close-timeout 1s");
        let mut clients = many_clients::open(network, &server, COUNT);
        many_clients::send_pongs(&mut clients);
        let cut = network.cut();
        assert_eq!(server.connections(), COUNT as u64, "connections at the cut");
        let what = "black hole, 10,000 at once";
        assert_gone("R15", what, &server, cut, P + T + C + ms(800));
        assert_eq!(server.closes("ping_timeout"), COUNT as u64);
    });
}
