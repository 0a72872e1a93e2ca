//! SIGTERM.

use std::time::Duration;

use rustix::process::Signal;

use crate::{
    crowd,
    figures::{assert_within, tell},
    network::with_network,
    support::{
        client::{Client, End, close},
        ms, socket_table, wait,
    },
};

const C: Duration = ms(1000);
const ENDED_WITHIN: Duration = ms(1800);

#[test]
fn r16_everybody_is_told_1001_and_it_ends_within_c_though_half_are_mute() {
    with_network(|network| {
        let server = network.start("--close-timeout 1s");
        let port = server.port();
        let mut mute = crowd::open(network, &server, 1000);
        let mut polite = mute.split_off(500);
        let start = wait::now();
        server.signal(Signal::TERM);
        for client in &mut polite {
            assert_eq!(client.frame().close_code(), 1001);
            client.send(&close(1001, ""));
            assert_eq!(client.end(), End::Fin);
            client.finish();
        }
        for client in &mut mute {
            assert_eq!(client.frame().close_code(), 1001);
        }
        tell("R16", "SIGTERM: 1,000 of 1,000 get Close 1001");
        let (status, log) = server.wait(ms(10_000));
        let took = start.elapsed();
        assert_eq!(status.code(), Some(0), "{log}");
        let what = "SIGTERM, 500 of 1,000 mute: exit 0 after";
        assert_within("R16", what, took, ENDED_WITHIN);
        assert!(took >= C, "the mute have all of C");
        for client in &mut mute {
            assert_eq!(client.end(), End::Reset);
        }
        socket_table::assert_no_orphans_soon(port);
    });
}

#[test]
fn r16_it_ends_within_c_though_the_network_is_gone() {
    with_network(|network| {
        let server = network.start("--close-timeout 1s");
        let port = server.port();
        let _clients = network.clients(|| Client::open_many(&server, 100));
        server.until_connections(100);
        network.cut();
        let start = wait::now();
        server.signal(Signal::TERM);
        let (status, log) = server.wait(ms(10_000));
        let took = start.elapsed();
        assert_eq!(status.code(), Some(0), "{log}");
        let what = "SIGTERM in a black hole of 100: exit 0 after";
        assert_within("R16", what, took, ENDED_WITHIN);
        let orphans = socket_table::assert_no_orphans_soon(port);
        let what = "after the exit: 0 orphans after";
        assert_within("R10", what, orphans, ms(500));
    });
}
