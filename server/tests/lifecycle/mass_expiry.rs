//! Very many deadlines at one moment, and one connection that lives on.

use std::time::Duration;

use rustix::process::Signal;

use crate::{
    crowd,
    figures::{assert_gone, assert_within, tell, time},
    network::{Network, with_network},
    prober::Prober,
    support::{SLACK, client::Client, ms, wait},
};

const COUNT: usize = 10_000;
const P: Duration = ms(2000);
const T: Duration = ms(1000);
const C: Duration = ms(1000);

/// R15: how late the last of so many may be.
const LATE: Duration = ms(800);

/// How much later an echo may be than on an idle server.
const DELAY: Duration = ms(20);

/// What else runs on the machine delays an echo too, but not each time.
const TRIES: usize = 3;

/// The slowest echoes of one try.
#[derive(Clone, Copy)]
struct Slowest {
    idle: Duration,
    closing: Duration,
    resetting: Duration,
}

#[test]
fn r20_mass_expiry_does_not_delay_the_echo_of_another() {
    for tries_left in (0..TRIES).rev() {
        let mut slowest = None;
        with_network(|network| slowest = Some(expire(network)));
        let Some(slowest) = slowest else {
            return;
        };
        let bound = slowest.idle + DELAY;
        if tries_left > 0 && slowest.closing.max(slowest.resetting) > bound {
            let (closing, resetting) = (time(slowest.closing), time(slowest.resetting));
            tell(
                "R20",
                &format!("beyond the bound, tried again: {closing}, {resetting}"),
            );
            continue;
        }
        let what = "10,000 pings within P/8, then 10,000 Close 1011 at once: slowest echo";
        assert_within("R20", what, slowest.closing, bound);
        let what = "10,000 resets at once: slowest echo";
        assert_within("R20", what, slowest.resetting, bound);
        return;
    }
}

/// Lets all but one connection expire together, and feels how that one fares.
fn expire(network: &Network) -> Slowest {
    let flags = "--shards 1 --ping-interval 2s --ping-timeout 1s --close-timeout 1s";
    let server = network.start(flags);
    // On the server's side of the cut, over loopback.
    let prober = Prober::start(Client::open(&server));
    prober.worst();
    prober.wait_for(500);
    let idle = prober.worst();
    prober.stop();
    let what = "slowest of 500 echoes on an idle server:";
    tell("R20", &format!("{what} {}", time(idle)));
    server.until_empty(SLACK);
    let mut clients = crowd::open(network, &server, COUNT);
    // While the server stands still all are heard, so that all are due together: the end of the
    // wait for a pong, and the end of the closing, in one tick of its wheel.
    server.signal(Signal::STOP);
    crowd::prove_life(&mut clients);
    let cut = network.cut_nearby();
    server.signal(Signal::CONT);
    let prober = Prober::start(Client::open(&server));
    // What was heard is being read: that is no expiry.
    prober.wait_for(100);
    prober.worst();
    assert_eq!(server.closes("ping_timeout"), 0, "pings are not due yet");
    wait::until(P + T + LATE, "all wait for a pong in vain", || {
        server.closes("ping_timeout") == COUNT as u64
    });
    let closing = prober.worst();
    wait::until(C + LATE, "all but the prober are gone", || {
        server.connections() == 1
    });
    let resetting = prober.worst();
    prober.stop();
    let what = "10,000 at once and a prober";
    assert_gone("R20", what, &server, cut, P + T + C + LATE);
    Slowest {
        idle,
        closing,
        resetting,
    }
}
