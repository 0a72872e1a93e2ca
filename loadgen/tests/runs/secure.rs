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
    foreign_servers::{CLOSE_1000, open, open_until_close, serve},
    harness::{Run, loadgen, run, text},
    tls_server::{Authority, Backend, Stream, serve_tls},
};

const LOOPBACK: &[&str] = &["127.0.0.1"];

/// A close storm of three connections, or what `arguments` make of it.
fn storm(address: SocketAddr, arguments: &[&str]) -> Run {
    run(&[&storm_at(address), arguments].concat())
}

/// What a user sees of it.
fn storm_in_words(address: SocketAddr, arguments: &[&str]) -> String {
    let arguments = [&storm_at(address), arguments].concat();
    text(&loadgen(&arguments).output().unwrap())
}

/// The URL has to live as long as its process.
fn storm_at(address: SocketAddr) -> [&'static str; 6] {
    let url = format!("wss://{address}/").leak();
    ["--url", url, "--connections", "3", "--timeout", "500ms"]
}

/// Each connection fails in the handshake, and the report tells why.
fn assert_handshake_fails(address: SocketAddr, arguments: &[&str], why: &str) {
    let run = storm(address, arguments);
    run.assert_all("handshake_failed", 3);
    let otherwise = "3 of 3 connections ended otherwise than asked for";
    run.assert_failed(&["no opening handshake succeeded (TLS: ", otherwise]);
    let words = storm_in_words(address, arguments);
    let line = format!("3 handshake failed (TLS: {why}");
    assert!(words.contains(&line), "{line}: {words}");
}

/// Opens each connection, and answers its Close.
fn well_behaved(stream: &mut Stream) -> io::Result<()> {
    open_until_close(stream)?;
    stream.write_all(CLOSE_1000)?;
    stream.conn.send_close_notify();
    stream.flush()?;
    stream.sock.shutdown(std::net::Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

#[test]
fn an_echo_loses_nothing_by_either_version() {
    let authority = Authority::new("one");
    let backend = Backend::start(&[]);
    let versions: [(&'static SupportedProtocolVersion, &str); 2] =
        [(&TLS12, "1.2"), (&TLS13, "1.3")];
    for (version, number) in versions {
        let address = backend.behind(authority.server(LOOPBACK, &[version]));
        let url = format!("wss://{address}/");
        // Behind 16 KiB a message takes more than one record.
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
            run.assert_as_asked();
            run.assert_all("closed", 4);
            assert!(run.number("/figures/echo.messages") >= 64.0);
            for name in ["lost", "altered", "out_of_order"] {
                assert_eq!(
                    run.number(&format!("/figures/{name}")),
                    0.0,
                    "{name} {size}"
                );
            }
            let told = run.at("/settings/tls").as_str().unwrap();
            assert!(told.starts_with(number), "{told}");
            let checked = format!("checked by {}", authority.path());
            assert_eq!(*run.at("/settings/certificate"), checked);
        }
    }
}

#[test]
fn a_name_is_asked_for_and_checked() {
    let authority = Authority::new("one");
    let (sender, names) = mpsc::channel();
    let config = authority.server(&["localhost"], ALL_VERSIONS);
    let address = serve_tls(config, move |stream| {
        open_until_close(stream)?;
        let (name, protocol) = (stream.conn.server_name(), stream.conn.alpn_protocol());
        let told = (name.map(str::to_owned), protocol.map(<[u8]>::to_vec));
        sender.send(told).map_err(io::Error::other)?;
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
    run.assert_as_asked();
    // Nor is FIN behind Close without close_notify an error.
    run.assert_all("closed", 3);
    let expected = (Some("localhost".to_owned()), Some(b"http/1.1".to_vec()));
    assert_eq!(names.try_iter().collect::<Vec<_>>(), vec![expected; 3]);
    let why = "invalid peer certificate: certificate not";
    assert_handshake_fails(address, &["--ca", authority.path()], why);
    let insecure = storm(address, &["--insecure"]);
    insecure.assert_as_asked();
    insecure.assert_all("closed", 3);
    assert_eq!(*insecure.at("/settings/certificate"), "not checked");
}

#[test]
fn an_authority_that_is_not_trusted_is_told_and_so_is_the_server() {
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
fn a_certificate_that_is_in_the_file_itself_is_taken_for_its_name() {
    let host = Authority::new("127.0.0.1");
    let address = serve_tls(host.itself(), well_behaved);
    let run = storm(address, &["--ca", host.path()]);
    run.assert_as_asked();
    run.assert_all("closed", 3);
    let why = "invalid peer certificate: CaUsedAsEndEntity)";
    assert_handshake_fails(address, &["--ca", Authority::new("one").path()], why);
    let other = Authority::new("other.test");
    let address = serve_tls(other.itself(), well_behaved);
    let why = "invalid peer certificate: certificate not";
    assert_handshake_fails(address, &["--ca", other.path()], why);
}

#[test]
fn the_system_s_store_is_trusted() {
    let authority = Authority::new("one");
    let address = serve_tls(authority.server(LOOPBACK, ALL_VERSIONS), well_behaved);
    let run = |store: &str| {
        let mut command = loadgen(&storm_at(address));
        command
            .env("SSL_CERT_FILE", store)
            .env_remove("SSL_CERT_DIR");
        let output = command.output().unwrap();
        (output.status.code(), text(&output))
    };
    let (_, words) = run(authority.path());
    assert!(words.contains("3 Close answered, then FIN"), "{words}");
    assert!(words.contains("checked by the system's store"), "{words}");
    let (status, words) = run("/nowhere/at/all.pem");
    assert_eq!(status, Some(2), "{words}");
    assert!(
        words.contains("--ca") && words.contains("/nowhere/at/all.pem"),
        "{words}"
    );
}

#[test]
fn a_file_without_an_authority_is_refused() {
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
        (path(&empty), "no certificate in PEM"),
        (path(&broken), "invalid peer certificate"),
    ] {
        let output = loadgen(&storm_at(address)).args(["--ca", &ca]).output();
        let output = output.unwrap();
        let words = text(&output);
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(words.contains(message) && words.contains(&ca), "{words}");
    }
}

#[test]
fn what_is_no_tls_is_told() {
    let plain = serve(|stream| {
        // A server without TLS at that port.
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    });
    assert_handshake_fails(
        plain,
        &["--insecure"],
        "this port does not speak TLS, write ws://",
    );
}

#[test]
fn an_end_in_the_handshake_is_told() {
    // FIN behind the ClientHello, or nothing.
    let cut = serve(|stream| stream.read(&mut [0; 16 * 1024]).map(drop));
    assert_handshake_fails(cut, &["--insecure"], "FIN in the handshake");
    // All but the end of the server's flight.
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
fn an_alert_is_told() {
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
fn a_reset_behind_close_notify_is_no_reset_by_the_server() {
    let authority = Authority::new("one");
    let address = serve_tls(authority.server(LOOPBACK, ALL_VERSIONS), |stream| {
        open_until_close(stream)?;
        stream.write_all(CLOSE_1000)?;
        stream.conn.send_close_notify();
        stream.flush()?;
        // To close with the client's close_notify unread resets the connection.
        stream.sock.peek(&mut [0]).map(drop)
    });
    let run = storm(address, &["--ca", authority.path()]);
    run.assert_as_asked();
    run.assert_all("closed", 3);
}

#[test]
fn fin_without_close_is_told_from_a_clean_end_by_tls_too() {
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
fn connections_are_reset_or_silent_as_without_tls() {
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
    closed.assert_as_asked();
    closed.assert_all("closed", 50);
    assert_eq!(closed.number("/figures/tls.handshakes_full"), 50.0);
    assert_eq!(closed.number("/latencies/fin/corrected/count"), 50.0);
    let reset = run_mode("reset", &[]);
    reset.assert_as_asked();
    reset.assert_all("reset", 50);
    // What is silent is let go by the server's deadlines, which TLS does not know.
    let deadlines = [
        "--ping-interval",
        "300ms",
        "--ping-timeout",
        "200ms",
        "--close-timeout",
        "100ms",
    ];
    let silent = run_mode("silent", &deadlines);
    silent.assert_as_asked();
    silent.assert_all("let_go", 50);
}

#[test]
fn who_comes_back_resumes_its_session_unless_it_must_not() {
    let authority = Authority::new("one");
    let backend = Backend::start(&[]);
    for version in ALL_VERSIONS {
        let address = backend.behind(authority.server(LOOPBACK, &[version]));
        let url = format!("wss://{address}/");
        // Each is reset once all are open, and comes back.
        let herd = ["connect", "--herd", "--connections", "5", "--url", &url];
        let trust = ["--ca", authority.path()];
        for (arguments, expected) in [(&[][..], [5.0, 5.0]), (&["--no-resumption"], [10.0, 0.0])] {
            let run = run(&[&herd[..], &trust, arguments].concat());
            run.assert_as_asked();
            let kinds = ["full", "resumed"];
            let count = |kind| run.number(&format!("/figures/tls.handshakes_{kind}"));
            assert_eq!(kinds.map(count), expected, "{version:?}");
        }
    }
}

#[test]
fn connections_end_in_all_ways_by_tls_too() {
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
    run.assert_ends_as_asked();
    assert_eq!(run.number("/figures/server.connections_left"), 0.0);
    assert_eq!(run.number("/figures/server.sockets_left"), 0.0);
}
