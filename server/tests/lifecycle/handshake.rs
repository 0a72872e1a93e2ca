//! Invalid and incomplete opening handshakes.

use std::{io::Write as _, time::Duration};

use crate::{
    measurements::{assert_bytes, assert_gone, report},
    network::with_network,
    support::{
        SLACK,
        client::{Client, REQUEST},
        invalid_requests::{self, request},
        ms, wait,
    },
};

const H: Duration = ms(1000);

/// Time that the server has after H.
const GRACE: Duration = ms(1000);

#[test]
fn r13_an_invalid_request_gets_its_status_and_is_released_within_h() {
    with_network(|network| {
        let server = network.start("--handshake-timeout 1s --close-timeout 1s");
        let mut cases = invalid_requests::all();
        let long = format!("X-Long: {}\r\nUpgrade", "a".repeat(100_000));
        cases.push((431, request("Upgrade", &long)));
        let start = wait::now();
        let mut clients: Vec<Client> =
            network.clients(|| cases.iter().map(|_| Client::connect(&server)).collect());
        for ((status, request), client) in cases.iter().zip(&mut clients) {
            invalid_requests::assert_refused(client, *status, request);
        }
        let count = cases.len();
        report(
            "R13",
            &format!("{count} invalid requests: {count} x the expected status, and FIN"),
        );
        // The clients never send FIN.
        assert_gone("R13", "invalid requests", &server, start, H + GRACE);
    });
}

#[test]
fn r13_a_request_sent_byte_by_byte_is_closed_within_h() {
    with_network(|network| {
        let server = network.start("--handshake-timeout 1s");
        let start = wait::now();
        let mut clients: Vec<Client> =
            network.clients(|| (0..50).map(|_| Client::connect(&server)).collect());
        server.until_connections(50);
        // The request would be complete long after H.
        for byte in REQUEST.bytes() {
            for client in &mut clients {
                // Fails once the server has closed the connection.
                let _ = client.stream.write_all(&[byte]);
            }
            if server.connections() == 0 {
                break;
            }
            wait::pause(ms(10));
        }
        assert!(start.elapsed() >= H, "a connection was closed before H");
        assert_gone("R13", "50 slow requests", &server, start, H + SLACK);
        assert_eq!(server.metric("tidewheel_handshake_timeouts_total", ""), 50);
    });
}

#[test]
fn r13_a_thousand_unfinished_requests_cost_less_than_16_mib() {
    with_network(|network| {
        let server = network.start("--handshake-timeout 1500ms --close-timeout 1s");
        // The first connections make the server allocate memory that later ones share.
        drop(network.clients(|| Client::open_many(&server, 10)));
        server.until_empty(SLACK);
        let before = server.memory("VmRSS");
        let requests = invalid_requests::unfinished();
        let clients: Vec<Client> = network.clients(|| {
            let connect = |bytes: &Vec<u8>| {
                let mut client = Client::connect(&server);
                client.send(bytes);
                client
            };
            requests.iter().cycle().take(1000).map(connect).collect()
        });
        let start = wait::now();
        let open = server.connections();
        let what = format!("1,000 unfinished requests, {open} still open");
        assert_gone("R13", &what, &server, start, ms(1500) + GRACE);
        let cost = server.memory("VmHWM").saturating_sub(before);
        assert_bytes("R13", "1,000 unfinished requests cost", cost, 16 << 20);
        drop(clients);
    });
}
