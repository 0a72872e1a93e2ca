//! Clients that leave all at once.

use std::time::Duration;

use crate::{
    crowd,
    figures::{assert_gone, assert_within, tell, time},
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

/// R11: a hundred leave in this way, a quarter of them in each stage of a message.
fn leave(what: &str, cause: &str, depart: impl Fn(Vec<Client>) -> Vec<Client> + Send + Sync) {
    with_network(|network| {
        let server = network.start("");
        let clients = network.clients(|| Client::hundred_in_mid_frame(&server));
        server.until_connections(100);
        let start = wait::now();
        let mut left = depart(clients);
        let what = format!("100 {what}, 75 of them in mid-frame");
        assert_gone("R11", &what, &server, start, ms(250));
        assert_eq!(server.closes(cause), 100);
        for client in &mut left {
            assert_eq!(client.end(), End::Fin, "a FIN is answered by a FIN");
        }
    });
}

#[test]
fn r11_a_hundred_resets() {
    leave("RST", "reset", |clients| {
        clients.into_iter().for_each(Client::reset);
        Vec::new()
    });
}

#[test]
fn r11_a_hundred_bare_fins() {
    leave("bare FIN", "eof_without_close", |mut clients| {
        clients.iter_mut().for_each(Client::finish);
        clients
    });
}

const MANY: usize = 10_000;

#[test]
fn r15_ten_thousand_close_at_once() {
    const C: Duration = ms(2000);
    with_network(|network| {
        let server = network.start("--close-timeout 2s");
        let mut clients = crowd::open(network, &server, MANY);
        let bytes = close(1000, "");
        let start = wait::now();
        let mut sent = Vec::with_capacity(MANY);
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
        tell(
            "R15",
            &format!("10,000 Closes are sent within {}", time(sending)),
        );
        let what = "10,000 Closes: 10,000 x 1000 and FIN, the slowest after";
        assert_within("R15", what, slowest, C);
        assert_eq!(server.closes("peer_close"), MANY as u64);
        assert_eq!(server.metric("tidewheel_deadline_resets_total", ""), 0);
        drop(clients);
        server.until_empty(C);
        assert_eq!(socket_table::orphans(server.port()), 0);
        let states = [State::TimeWait, State::FinWait2];
        assert_eq!(sock_diag::count(server.port(), &states), MANY);
    });
}

#[test]
fn r15_ten_thousand_resets_at_once() {
    with_network(|network| {
        let server = network.start("");
        let clients = crowd::open(network, &server, MANY);
        let start = wait::now();
        clients.into_iter().for_each(Client::reset);
        tell(
            "R15",
            &format!("10,000 RSTs are sent within {}", time(start.elapsed())),
        );
        let what = "10,000 RSTs, from the first";
        assert_gone("R15", what, &server, start, ms(1000));
        assert_eq!(server.closes("reset"), MANY as u64);
    });
}

#[test]
fn r15_ten_thousand_fall_silent_at_once() {
    with_network(|network| {
        let server = network.start("--ping-interval 2s --ping-timeout 1s --close-timeout 1s");
        let mut clients = crowd::open(network, &server, MANY);
        crowd::prove_life(&mut clients);
        let cut = network.cut();
        assert_eq!(server.connections(), MANY as u64, "all are there");
        let what = "black hole, 10,000 at once";
        assert_gone("R15", what, &server, cut, P + T + C + ms(800));
        assert_eq!(server.closes("ping_timeout"), MANY as u64);
    });
}
