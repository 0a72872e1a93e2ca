//! Runs over TLS.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    sync::mpsc,
};

use rustls::{
    ALL_VERSIONS, ServerConfig, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};

use crate::{
    harness::{Run, loadgen, run, text},
    misbehaving_servers::{CLOSE_1000, open, open_until_close, serve},
    tls_server::{Authority, Backend, Stream, serve_tls},
};

const LOOPBACK: &[&str] = &["127.0.0.1"];

/// Runs close-storm with three connections and these arguments.
fn storm(address: SocketAddr, arguments: &[&str]) -> Run {
    run(&[&storm_arguments(address), arguments].concat())
}

/// Returns the text that the same run prints.
fn storm_text(address: SocketAddr, arguments: &[&str]) -> String {
    let arguments = [&storm_arguments(address), arguments].concat();
    text(&loadgen(&arguments).output().unwrap())
}

/// The URL is leaked, because the arguments borrow it.
fn storm_arguments(address: SocketAddr) -> [&'static str; 6] {
    let url = format!("wss://{address}/").leak();
    ["--url", url, "--connections", "3", "--timeout", "500ms"]
}

/// Checks that each connection fails in the handshake, and that the report contains the reason.
fn assert_handshake_fails(address: SocketAddr, arguments: &[&str], why: &str) {
    let run = storm(address, arguments);
    run.assert_all("handshake_failed", 3);
    let unexpected = "3 of 3 connections ended unexpectedly";
    run.assert_failed(&["no opening handshake succeeded (TLS: ", unexpected]);
    let words = storm_text(address, arguments);
    let line = format!("3 handshake failed (TLS: {why}");
    assert!(words.contains(&line), "{line}: {words}");
}

/// Opens a connection and answers its Close.
fn close_correctly(stream: &mut Stream) -> io::Result<()> {
    open_until_close(stream)?;
    stream.write_all(CLOSE_1000)?;
    stream.conn.send_close_notify();
    stream.flush()?;
    stream.sock.shutdown(std::net::Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

#[test]
fn echo_loses_nothing_with_tls_1_2_and_1_3() {
    let authority = Authority::new("one");
    let backend = Backend::start(&[]);
    let versions: [(&'static SupportedProtocolVersion, &str); 2] =
        [(&TLS12, "1.2"), (&TLS13, "1.3")];
    for (version, number) in versions {
        let address = backend.behind(authority.server(LOOPBACK, &[version]));
        let url = format!("wss://{address}/");
        // A message of more than 16 KiB takes more than one record.
        for size in ["1", "1000", "40000"] {
            let run = run(&[
                "echo",
                "--url",
                &url,
                "--ca",
                authority.path(),
                "--connections",
                "4",
                "--in-flight",
                "16",
                "--size",
                size,
                "--duration",
                "300ms",
                "--warm-up",
                "0s",
            ]);
            run.assert_passed();
            run.assert_all("closed", 4);
            assert!(run.number("/figures/echo.messages") >= 64.0);
            for name in ["lost", "altered", "out_of_order"] {
                assert_eq!(
                    run.number(&format!("/figures/{name}")),
                    0.0,
                    "{name} {size}"
                );
            }
            let protocol = run.at("/settings/tls").as_str().unwrap();
            assert!(protocol.starts_with(number), "{protocol}");
            let checked = format!("verified by {}", authority.path());
            assert_eq!(*run.at("/settings/certificate"), checked);
        }
    }
}

#[test]
fn the_name_of_the_server_is_requested_and_verified() {
    let authority = Authority::new("one");
    let (sender, names) = mpsc::channel();
    let config = authority.server(&["localhost"], ALL_VERSIONS);
    let address = serve_tls(config, move |stream| {
        open_until_close(stream)?;
        let (name, protocol) = (stream.conn.server_name(), stream.conn.alpn_protocol());
        let offer = (name.map(str::to_owned), protocol.map(<[u8]>::to_vec));
        sender.send(offer).map_err(io::Error::other)?;
        stream.write_all(CLOSE_1000)
    });
    let url = format!("wss://localhost:{}/", address.port());
    let run = run(&[
        "--url",
        &url,
        "--ca",
        authority.path(),
        "--connections",
        "3",
    ]);
    run.assert_passed();
    // FIN after Close without close_notify is not an error.
    run.assert_all("closed", 3);
    let expected = (Some("localhost".to_owned()), Some(b"http/1.1".to_vec()));
    assert_eq!(names.try_iter().collect::<Vec<_>>(), vec![expected; 3]);
    let why = "invalid peer certificate: certificate not";
    assert_handshake_fails(address, &["--ca", authority.path()], why);
    let insecure = storm(address, &["--insecure"]);
    insecure.assert_passed();
    insecure.assert_all("closed", 3);
    assert_eq!(*insecure.at("/settings/certificate"), "not verified");
}

#[test]
fn an_untrusted_authority_is_reported_and_the_server_gets_an_alert() {
    let authority = Authority::new("one");
    let (sender, ends) = mpsc::channel();
    let config = authority.server(LOOPBACK, ALL_VERSIONS);
    let address = serve_tls(config, move |stream| {
        let end = open(stream).unwrap_err().to_string();
        sender.send(end).map_err(io::Error::other)
    });
    let another = Authority::new("another");
    for trust in [&["--ca", another.path()][..], &[]] {
        assert_handshake_fails(address, trust, "invalid peer certificate: UnknownIssuer");
    }
    let ends: Vec<_> = ends.iter().take(12).collect();
    assert!(
        ends.iter()
            .all(|end| end.contains("received fatal alert: UnknownCA")),
        "{ends:?}"
    );
}

#[test]
fn a_server_certificate_in_the_ca_file_is_accepted_for_its_name() {
    let host = Authority::new("127.0.0.1");
    let address = serve_tls(host.own_certificate(), close_correctly);
    let run = storm(address, &["--ca", host.path()]);
    run.assert_passed();
    run.assert_all("closed", 3);
    let why = "invalid peer certificate: CaUsedAsEndEntity)";
    assert_handshake_fails(address, &["--ca", Authority::new("one").path()], why);
    let other = Authority::new("other.test");
    let address = serve_tls(other.own_certificate(), close_correctly);
    let why = "invalid peer certificate: certificate not";
    assert_handshake_fails(address, &["--ca", other.path()], why);
}

#[test]
fn the_store_of_the_system_is_trusted() {
    let authority = Authority::new("one");
    let address = serve_tls(authority.server(LOOPBACK, ALL_VERSIONS), close_correctly);
    let run = |store: &str| {
        let mut command = loadgen(&storm_arguments(address));
        command
            .env("SSL_CERT_FILE", store)
            .env_remove("SSL_CERT_DIR");
        let output = command.output().unwrap();
        (output.status.code(), text(&output))
    };
    let (_, words) = run(authority.path());
    assert!(words.contains("3 Close answered, then FIN"), "{words}");
    assert!(words.contains("verified by the system's store"), "{words}");
    let (status, words) = run("/nowhere/at/all.pem");
    assert_eq!(status, Some(2), "{words}");
    assert!(
        words.contains("--ca") && words.contains("/nowhere/at/all.pem"),
        "{words}"
    );
}

#[test]
fn a_ca_file_without_a_certificate_is_refused() {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let file = |text: &str| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    };
    let (empty, broken) = (
        file("nothing"),
        file("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    );
    let path = |file: &tempfile::NamedTempFile| file.path().to_str().unwrap().to_owned();
    for (ca, message) in [
        ("/nowhere/at/all.pem".to_owned(), "No such file"),
        (path(&empty), "no PEM certificate"),
        (path(&broken), "invalid peer certificate"),
    ] {
        let output = loadgen(&storm_arguments(address))
            .args(["--ca", &ca])
            .output();
        let output = output.unwrap();
        let words = text(&output);
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(words.contains(message) && words.contains(&ca), "{words}");
    }
}

#[test]
fn a_server_without_tls_is_reported() {
    let plain = serve(|stream| {
        // A server without TLS.
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    });
    assert_handshake_fails(
        plain,
        &["--insecure"],
        "the server does not use TLS; write ws://",
    );
}

#[test]
fn an_end_during_the_handshake_is_reported() {
    // FIN after the ClientHello.
    let cut = serve(|stream| stream.read(&mut [0; 16 * 1024]).map(drop));
    assert_handshake_fails(cut, &["--insecure"], "FIN in the handshake");
    // The server's flight without its last bytes.
    let authority = Authority::new("one");
    let config = std::sync::Arc::new(authority.server(LOOPBACK, ALL_VERSIONS));
    let half = serve(move |stream| {
        let mut tls = rustls::ServerConnection::new(config.clone()).map_err(io::Error::other)?;
        while !tls.wants_write() {
            tls.read_tls(stream)?;
            tls.process_new_packets().map_err(io::Error::other)?;
        }
        let mut flight = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut flight)?;
        }
        stream.write_all(&flight[..flight.len() - 20])
    });
    assert_handshake_fails(half, &["--ca", authority.path()], "FIN in the handshake");
    let silent = serve(|stream| stream.read_to_end(&mut Vec::new()).map(drop));
    assert_handshake_fails(silent, &["--insecure"], "timed out in the handshake");
}

#[test]
fn an_alert_of_the_server_is_reported() {
    let authority = Authority::new("one");
    let mut config: ServerConfig = authority.server(LOOPBACK, ALL_VERSIONS);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let address = serve_tls(config, |stream| {
        open(stream)?;
        Ok(())
    });
    let trust = ["--ca", authority.path()];
    assert_handshake_fails(
        address,
        &trust,
        "received fatal alert: NoApplicationProtocol",
    );
}

#[test]
fn a_reset_after_close_notify_counts_as_fin() {
    let authority = Authority::new("one");
    let address = serve_tls(authority.server(LOOPBACK, ALL_VERSIONS), |stream| {
        open_until_close(stream)?;
        stream.write_all(CLOSE_1000)?;
        stream.conn.send_close_notify();
        stream.flush()?;
        // A close with unread input (close_notify) resets the connection.
        stream.sock.peek(&mut [0]).map(drop)
    });
    let run = storm(address, &["--ca", authority.path()]);
    run.assert_passed();
    run.assert_all("closed", 3);
}

#[test]
fn fin_without_close_over_tls_is_not_a_clean_end() {
    let authority = Authority::new("one");
    let address = serve_tls(authority.server(LOOPBACK, ALL_VERSIONS), |stream| {
        open_until_close(stream)?;
        stream.conn.send_close_notify();
        stream.flush()
    });
    let run = storm(address, &["--ca", authority.path()]);
    run.assert_all("fin_without_close", 3);
    assert_eq!(run.status, 1);
}

#[test]
fn close_reset_and_silent_modes_work_over_tls() {
    let authority = Authority::new("one");
    let backend = Backend::start(&[
        "--ping-interval",
        "300ms",
        "--ping-timeout",
        "200ms",
        "--close-timeout",
        "100ms",
    ]);
    let address = backend.behind(authority.server(LOOPBACK, ALL_VERSIONS));
    let admin = backend.admin();
    let common = [
        "--ca",
        authority.path(),
        "--admin",
        &admin,
        "--connections",
        "50",
    ];
    let url = format!("wss://{address}/");
    let run_mode = |mode: &str, deadlines: &[&str]| {
        let arguments = ["--url", &url, "--mode", mode];
        run(&[&arguments[..], &common, deadlines].concat())
    };
    let closed = run_mode("close", &[]);
    closed.assert_passed();
    closed.assert_all("closed", 50);
    assert_eq!(closed.number("/figures/tls.handshakes_full"), 50.0);
    assert_eq!(closed.number("/latencies/fin/corrected/count"), 50.0);
    let reset = run_mode("reset", &[]);
    reset.assert_passed();
    reset.assert_all("reset", 50);
    // The deadlines of the server end silent connections. The TLS proxy does not know them.
    let deadlines = [
        "--ping-interval",
        "300ms",
        "--ping-timeout",
        "200ms",
        "--close-timeout",
        "100ms",
    ];
    let silent = run_mode("silent", &deadlines);
    silent.assert_passed();
    silent.assert_all("let_go", 50);
}

#[test]
fn reconnecting_clients_resume_their_session_unless_no_resumption() {
    let authority = Authority::new("one");
    let backend = Backend::start(&[]);
    for version in ALL_VERSIONS {
        let address = backend.behind(authority.server(LOOPBACK, &[version]));
        let url = format!("wss://{address}/");
        // All are reset when all are open, and reconnect.
        let herd = ["connect", "--herd", "--connections", "5", "--url", &url];
        let trust = ["--ca", authority.path()];
        for (arguments, expected) in [(&[][..], [5.0, 5.0]), (&["--no-resumption"], [10.0, 0.0])] {
            let run = run(&[&herd[..], &trust, arguments].concat());
            run.assert_passed();
            let kinds = ["full", "resumed"];
            let count = |kind| run.number(&format!("/figures/tls.handshakes_{kind}"));
            assert_eq!(kinds.map(count), expected, "{version:?}");
        }
    }
}

#[test]
fn churn_leaves_nothing_over_tls() {
    let authority = Authority::new("one");
    let deadlines = [
        "--ping-interval",
        "1s",
        "--ping-timeout",
        "1s",
        "--close-timeout",
        "1s",
        "--handshake-timeout",
        "1s",
    ];
    let backend = Backend::start(&deadlines);
    let address = backend.behind(authority.server(LOOPBACK, ALL_VERSIONS));
    let url = format!("wss://{address}/");
    let admin = backend.admin();
    let server = ["--url", &url, "--ca", authority.path(), "--admin", &admin];
    let churn = ["churn", "--duration", "1s", "--warm-up", "1s"];
    let run = run(&[&churn[..], &["--rate", "200"], &server, &deadlines].concat());
    run.assert_passed_or_starved();
    assert_eq!(run.number("/figures/server.connections_left"), 0.0);
    assert_eq!(run.number("/figures/server.sockets_left"), 0.0);
}
