//! Those who do not complete the opening handshake.

use std::{io::Write as _, time::Duration};

use crate::{
    figures::{assert_bytes, assert_gone, tell},
    network::with_network,
    support::{
        SLACK,
        client::{Client, REQUEST},
        ms,
        requests::{self, request},
        wait,
    },
};

const H: Duration = ms(1000);

/// The second that the server has after H.
const GRACE: Duration = ms(1000);

#[test]
fn r13_each_wrong_request_gets_its_status_and_is_ended() {
    with_network(|network| {
        let server = network.start("--handshake-timeout 1s --close-timeout 1s");
        let mut cases = requests::wrong();
        let long = format!("X-Long: {}\r\nUpgrade", "a".repeat(100_000));
        cases.push((431, request("Upgrade", &long)));
        let start = wait::now();
        let mut clients: Vec<Client> =
            network.clients(|| cases.iter().map(|_| Client::connect(&server)).collect());
        for ((status, request), client) in cases.iter().zip(&mut clients) {
            requests::assert_refused(client, *status, request);
        }
        let count = cases.len();
        tell(
            "R13",
            &format!("{count} wrong requests: {count} x the right status, and FIN"),
        );
        // They stay, and never send FIN.
        assert_gone("R13", "wrong requests", &server, start, H + GRACE);
    });
}

#[test]
fn r13_a_byte_now_and_then_buys_no_time() {
    with_network(|network| {
        let server = network.start("--handshake-timeout 1s");
        let start = wait::now();
        let mut clients: Vec<Client> =
            network.clients(|| (0..50).map(|_| Client::connect(&server)).collect());
        server.until_connections(50);
        // The request would be complete long after H.
        for byte in REQUEST.bytes() {
            for client in &mut clients {
                // The server ends them while they write.
                let _ = client.stream.write_all(&[byte]);
            }
            if server.connections() == 0 {
                break;
            }
            wait::pause(ms(10));
        }
        assert!(start.elapsed() >= H, "each has all of H");
        assert_gone("R13", "50 slowloris", &server, start, H + SLACK);
        assert_eq!(server.metric("tidewheel_handshake_timeouts_total", ""), 50);
    });
}

#[test]
fn r13_a_thousand_attackers_cost_less_than_16_mib() {
    with_network(|network| {
        let server = network.start("--handshake-timeout 1500ms --close-timeout 1s");
        // What the first connections touch, they touch for all.
        drop(network.clients(|| Client::open_many(&server, 10)));
        server.until_empty(SLACK);
        let before = server.memory("VmRSS");
        let attacks = requests::attacks();
        let clients: Vec<Client> = network.clients(|| {
            let attack = |bytes: &Vec<u8>| {
                let mut client = Client::connect(&server);
                client.send(bytes);
                client
            };
            attacks.iter().cycle().take(1000).map(attack).collect()
        });
        let start = wait::now();
        let held = server.connections();
        let what = format!("1,000 attackers, {held} still held");
        assert_gone("R13", &what, &server, start, ms(1500) + GRACE);
        let cost = server.memory("VmHWM").saturating_sub(before);
        assert_bytes("R13", "1,000 attackers cost", cost, 16 << 20);
        drop(clients);
    });
}
