//! 10,000 deadlines at the same time, and the echoes of another connection.

use std::time::Duration;

use rustix::process::Signal;

use crate::{
    many_clients,
    measurements::{assert_gone, check_within, report, time},
    network::{Network, with_network},
    support::{SLACK, client::Client, ms, prober::Prober, retry, wait},
};

const COUNT: usize = 10_000;
const P: Duration = ms(2000);
const T: Duration = ms(1000);
const C: Duration = ms(1000);

/// R15: slack of the last of 10,000 deadlines.
const LATE_MAX: Duration = ms(800);

/// R20: additional time of an echo, compared with an idle server.
const ECHO_DELAY_MAX: Duration = ms(20);

/// The longest echoes of one measurement.
struct LongestEchoes {
    idle: Duration,
    closing: Duration,
    resetting: Duration,
}

#[test]
fn r20_10_000_deadlines_at_once_do_not_delay_the_echo_of_another_connection() {
    retry::until_ok(|| {
        let mut result = Ok(());
        with_network(|network| result = check(&expire(network)));
        result
    });
}

fn check(echoes: &LongestEchoes) -> Result<(), String> {
    let bound = echoes.idle + ECHO_DELAY_MAX;
    let what = "10,000 Pings within P/8, then 10,000 Close 1011 at once: longest echo";
    check_within("R20", what, echoes.closing, bound)?;
    let what = "10,000 resets at once: longest echo";
    check_within("R20", what, echoes.resetting, bound)
}

/// Lets 10,000 connections expire at the same time, and measures the echoes of another connection.
fn expire(network: &Network) -> LongestEchoes {
    let flags = "--shards 1 --ping-interval 2s --ping-timeout 1s --close-timeout 1s";
    let server = network.start(flags);
    // The prober is in the server's namespace, so that the cut does not affect it.
    let prober = Prober::start(Client::open(&server), ms(1));
    prober.take_longest();
    prober.wait_for(500);
    let idle = prober.take_longest();
    drop(prober);
    let what = "longest of 500 echoes on an idle server:";
    report("R20", &format!("{what} {}", time(idle)));
    server.until_empty(SLACK);
    let mut clients = many_clients::open(network, &server, COUNT);
    // All Pongs arrive while the server is stopped, so that all ping timeouts, and later all close timeouts,
    // expire in one tick of the timer wheel.
    server.signal(Signal::STOP);
    many_clients::send_pongs(&mut clients);
    let cut = network.cut_at_server();
    server.signal(Signal::CONT);
    let prober = Prober::start(Client::open(&server), ms(1));
    // Reading the Pongs does not count.
    prober.wait_for(100);
    prober.take_longest();
    assert_eq!(
        server.closes("ping_timeout"),
        0,
        "a ping timeout is too early"
    );
    wait::until(P + T + LATE_MAX, "all ping timeouts have expired", || {
        server.closes("ping_timeout") == COUNT as u64
    });
    let closing = prober.take_longest();
    wait::until(C + LATE_MAX, "only the prober is left", || {
        server.connections() == 1
    });
    let resetting = prober.take_longest();
    drop(prober);
    let what = "10,000 at once and a prober";
    assert_gone("R20", what, &server, cut, P + T + C + LATE_MAX);
    LongestEchoes {
        idle,
        closing,
        resetting,
    }
}
