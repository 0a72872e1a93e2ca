//! A drain, started by SIGTERM.

use std::time::Duration;

use rustix::process::Signal;

use crate::{
    many_clients,
    measurements::{assert_within, report},
    network::with_network,
    support::{
        client::{Client, End, close},
        ms, socket_table, wait,
    },
};

const C: Duration = ms(1000);
const DRAIN_MAX: Duration = ms(1800);

#[test]
fn r16_sigterm_closes_all_with_1001_and_ends_within_c_although_half_do_not_answer() {
    with_network(|network| {
        let server = network.start("--close-timeout 1s");
        let port = server.port();
        let mut silent = many_clients::open(network, &server, 1000);
        let mut answering = silent.split_off(500);
        let start = wait::now();
        server.signal(Signal::TERM);
        for client in &mut answering {
            assert_eq!(client.frame().close_code(), 1001);
            client.send(&close(1001, ""));
            assert_eq!(client.end(), End::Fin);
            client.finish();
        }
        for client in &mut silent {
            assert_eq!(client.frame().close_code(), 1001);
        }
        report("R16", "SIGTERM: 1,000 of 1,000 get Close 1001");
        let (status, log) = server.wait(ms(10_000));
        let took = start.elapsed();
        assert_eq!(status.code(), Some(0), "{log}");
        let what = "SIGTERM, 500 of 1,000 silent: exit 0 after";
        assert_within("R16", what, took, DRAIN_MAX);
        assert!(took >= C, "the process exited before C");
        for client in &mut silent {
            assert_eq!(client.end(), End::Reset);
        }
        socket_table::assert_no_orphans_soon(port);
    });
}

#[test]
fn r16_a_drain_without_a_network_ends_within_c() {
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
        assert_within("R16", what, took, DRAIN_MAX);
        let orphans = socket_table::assert_no_orphans_soon(port);
        let what = "after the exit: 0 orphans after";
        assert_within("R10", what, orphans, ms(500));
    });
}
