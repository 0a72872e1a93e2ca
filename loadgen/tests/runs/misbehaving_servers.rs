//! Test servers that misbehave, and the outcome that is counted for each.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use crate::harness::{Run, loadgen, run, text};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha1::{Digest, Sha1};

pub(crate) const CLOSE_1000: &[u8] = b"\x88\x02\x03\xe8";
const CLOSE_1001: &[u8] = b"\x88\x02\x03\xe9";

const CONNECTIONS: u32 = 3;

/// The behaviour of a server on one connection. The connection is closed when it returns.
type Behaviour = fn(&mut TcpStream) -> io::Result<()>;

/// Serves each connection on its own thread, until the test process ends.
pub(crate) fn serve(
    behaviour: impl Fn(&mut TcpStream) -> io::Result<()> + Clone + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let behaviour = behaviour.clone();
            thread::spawn(move || behaviour(&mut stream));
        }
    });
    address
}

/// Reads the head of a request, and returns its `Sec-WebSocket-Key`.
fn read_request(stream: &mut (impl Read + Write)) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8(head).map_err(io::Error::other)?;
    let key = head
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
        .ok_or(io::ErrorKind::InvalidData)?;
    Ok(key.to_owned())
}

/// Accepts the opening handshake (RFC 6455 4.2.2).
pub(crate) fn accept_handshake(stream: &mut (impl Read + Write)) -> io::Result<()> {
    let key = read_request(stream)?;
    let digest = Sha1::digest(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = STANDARD.encode(digest);
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(response.as_bytes())
}

/// Reads a short masked frame, and returns its first byte and its payload.
pub(crate) fn read_frame(stream: &mut (impl Read + Write)) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 6];
    stream.read_exact(&mut header)?;
    assert_eq!(header[1] & 0x80, 0x80, "a client masks");
    let mut payload = vec![0; usize::from(header[1] & 0x7f)];
    stream.read_exact(&mut payload)?;
    for (index, byte) in payload.iter_mut().enumerate() {
        *byte ^= header[2 + index % 4];
    }
    Ok((header[0], payload))
}

/// Accepts the opening handshake, and echoes the first message.
pub(crate) fn open(stream: &mut (impl Read + Write)) -> io::Result<()> {
    accept_handshake(stream)?;
    let (first, payload) = read_frame(stream)?;
    assert_eq!(first, 0x81, "the first message is text");
    let mut frame = vec![first, u8::try_from(payload.len()).unwrap()];
    frame.extend(payload);
    stream.write_all(&frame)
}

/// Opens the connection, and reads the client's Close.
pub(crate) fn open_until_close(stream: &mut (impl Read + Write)) -> io::Result<()> {
    open(stream)?;
    let (first, payload) = read_frame(stream)?;
    assert_eq!((first, &payload[..]), (0x88, &b"\x03\xe8"[..]));
    Ok(())
}

/// Reads until the client's FIN or RST.
fn read_until_end(stream: &mut TcpStream) -> io::Result<()> {
    io::copy(stream, &mut io::sink()).map(drop)
}

fn storm(address: SocketAddr, arguments: &[&str]) -> Run {
    let url = format!("ws://{address}/");
    let connections = CONNECTIONS.to_string();
    let fixed = [
        "--url",
        &url,
        "--connections",
        &connections,
        "--timeout",
        "500ms",
    ];
    run(&[&fixed[..], arguments].concat())
}

/// Checks that all connections have this outcome, and that the run fails for it.
fn assert_all_fail(behaviour: Behaviour, outcome: &str) {
    assert_all_fail_as(behaviour, outcome, &[]);
}

/// Also checks that the reasons begin with `advice`.
fn assert_all_fail_as(behaviour: Behaviour, outcome: &str, advice: &[&str]) {
    let run = storm(serve(behaviour), &[]);
    run.assert_all(outcome, CONNECTIONS);
    let reasons = ["3 of 3 connections ended unexpectedly"];
    run.assert_failed(&[advice, &reasons[..]].concat());
    assert_eq!(*run.at("/server/child"), false);
}

#[test]
fn a_correct_server_passes() {
    let address = serve(|stream| {
        open_until_close(stream)?;
        stream.write_all(CLOSE_1000)
    });
    let run = storm(address, &[]);
    run.assert_passed();
    run.assert_all("closed", CONNECTIONS);
}

#[test]
fn a_server_that_never_answers_close_times_out() {
    assert_all_fail(
        |stream| {
            open_until_close(stream)?;
            read_until_end(stream)
        },
        "close_timed_out",
    );
}

#[test]
fn a_server_that_leaves_tcp_open_times_out() {
    assert_all_fail(
        |stream| {
            open_until_close(stream)?;
            stream.write_all(CLOSE_1000)?;
            read_until_end(stream)
        },
        "fin_timed_out",
    );
}

#[test]
fn fin_without_close_is_not_a_clean_end() {
    assert_all_fail(open_until_close, "fin_without_close");
}

#[test]
fn another_close_code_is_not_a_clean_end() {
    assert_all_fail(
        |stream| {
            open_until_close(stream)?;
            stream.write_all(CLOSE_1001)
        },
        "other_code",
    );
}

#[test]
fn a_reset_is_not_a_clean_end() {
    assert_all_fail(
        |stream| {
            open(stream)?;
            // A close with unread input resets the connection.
            stream.peek(&mut [0]).map(drop)
        },
        "reset_by_server",
    );
}

#[test]
fn a_server_that_ends_a_connection_early_fails() {
    assert_all_fail(open, "ended_early");
    assert_all_fail(
        |stream| {
            open(stream)?;
            stream.write_all(CLOSE_1001)?;
            read_until_end(stream)
        },
        "ended_early",
    );
}

#[test]
fn a_masked_frame_of_the_server_is_a_protocol_error() {
    assert_all_fail_as(
        |stream| {
            open_until_close(stream)?;
            stream.write_all(b"\x88\x82\0\0\0\0\x03\xe8")?;
            read_until_end(stream)
        },
        "protocol_error",
        &["the server violated the protocol on 3 of 3 connections"],
    );
}

#[test]
fn a_wrong_accept_key_fails_the_handshake() {
    assert_all_fail_as(
        |stream| {
            read_request(stream)?;
            stream.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                  Connection: Upgrade\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            )?;
            read_until_end(stream)
        },
        "handshake_failed",
        &["no opening handshake succeeded ("],
    );
}

#[test]
fn a_silent_server_fails_the_handshake() {
    assert_all_fail_as(
        read_until_end,
        "handshake_failed",
        &["no opening handshake succeeded (timed out): is there a WebSocket server at --url"],
    );
}

#[test]
fn a_wrong_first_echo_fails_with_advice() {
    assert_all_fail_as(
        |stream| {
            accept_handshake(stream)?;
            stream.write_all(b"\x81\x05Hello")?;
            read_until_end(stream)
        },
        "echo_failed",
        &["no first message was echoed correctly ("],
    );
}

#[test]
fn no_echo_does_not_wait_for_an_echo() {
    let address = serve(|stream| {
        accept_handshake(stream)?;
        let (first, _) = read_frame(stream)?;
        assert_eq!(first, 0x88, "Close is the first frame");
        stream.write_all(CLOSE_1000)
    });
    let run = storm(address, &["--no-echo"]);
    run.assert_passed();
    run.assert_all("closed", CONNECTIONS);
}

#[test]
fn the_answer_of_a_server_without_websocket_is_reported() {
    let told = |answer: &'static [u8]| {
        let address = serve(move |stream| {
            read_request(stream)?;
            stream.write_all(answer)
        });
        let run = storm(address, &[]);
        run.assert_all("handshake_failed", CONNECTIONS);
        let unexpected = "3 of 3 connections ended unexpectedly";
        run.assert_failed(&["no opening handshake succeeded (", unexpected]);
        run.at("/reasons").to_string()
    };
    let page = told(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert!(
        page.contains("status is 200, 101 opens a connection"),
        "{page}"
    );
    let full = told(b"HTTP/1.1 503 Service Unavailable\r\n\r\nserver is full\n");
    let line = "status is 503, 101 opens a connection, the server said: server is full";
    assert!(full.contains(line), "{full}");
    let ssh = told(b"SSH-2.0-OpenSSH_9.2\r\n");
    assert!(ssh.contains("malformed response"), "{ssh}");
}

/// Returns an address that refuses connections: a port that was just freed.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn an_address_without_a_server_refuses_each_connection() {
    let address = free_address();
    let run = storm(address, &[]);
    run.assert_all("refused", CONNECTIONS);
    run.assert_failed_despite_limit();
    let refused = format!(
        "3 of 3 connections were refused, because no server listens at {address}: start the server, or correct --url"
    );
    let unexpected = "3 of 3 connections ended unexpectedly";
    run.assert_failed(&[&refused, unexpected]);
    let url = format!("ws://{address}/");
    let output = loadgen(&["--url", &url, "--connections", "3"]).output();
    let printed = text(&output.unwrap());
    let line = format!("3 refused (no server listens at {address})");
    assert!(printed.contains(&line), "{printed}");
}

#[test]
fn a_missing_admin_listener_is_an_error_before_the_run() {
    let address = serve(open_until_close);
    let (url, admin) = (format!("ws://{address}/"), free_address().to_string());
    let output = loadgen(&["--url", &url, "--admin", &admin])
        .output()
        .unwrap();
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(
        printed.contains("--admin is the address of the admin listener"),
        "{printed}"
    );
    assert!(!printed.contains("opened"), "{printed}");
}

#[test]
fn lost_messages_and_failed_gates_are_not_excused_by_a_busy_machine() {
    // It echoes only the first message.
    let address = serve(|stream| {
        open(stream)?;
        loop {
            let (first, _) = read_frame(stream)?;
            if first == 0x88 {
                return stream.write_all(CLOSE_1000);
            }
        }
    });
    let url = format!("ws://{address}/");
    let base = [
        "echo",
        "--url",
        &url,
        "--connections",
        "2",
        "--timeout",
        "300ms",
    ];
    let short = ["--duration", "100ms", "--warm-up", "0s"];
    let lost = run(&[&base[..], &short].concat());
    lost.assert_failed_despite_limit();
    lost.assert_failed(&["2 of 2 messages were not answered"]);
    let address = serve(|stream| {
        open_until_close(stream)?;
        stream.write_all(CLOSE_1000)
    });
    let run = storm(address, &["--assert", "closed==5"]);
    run.assert_failed_despite_limit();
    run.assert_failed(&["gate FAILS  closed==5  (measured 3, limit 5)"]);
}

#[test]
fn an_unprintable_report_hides_no_failure() {
    let url = format!("ws://{}/", free_address());
    let base = ["--url", &url, "--connections", "3"];
    let status = |arguments: &[&str]| {
        let full = std::fs::File::create("/dev/full").unwrap();
        let output = loadgen(arguments).stdout(full).output().unwrap();
        let printed = text(&output);
        assert!(
            printed.contains("the report cannot be printed"),
            "{printed}"
        );
        output.status.code()
    };
    assert_eq!(status(&base), Some(1));
    assert_eq!(status(&["--connections", "3"]), Some(2));
}

/// Mode silent, and the stated deadlines of the server.
const SILENT: [&str; 8] = [
    "--mode",
    "silent",
    "--ping-interval",
    "100ms",
    "--ping-timeout",
    "100ms",
    "--close-timeout",
    "100ms",
];

#[test]
fn a_server_that_keeps_silent_clients_fails() {
    let address = serve(|stream| {
        open(stream)?;
        read_until_end(stream)
    });
    let run = storm(address, &SILENT);
    run.assert_all("still_held", CONNECTIONS);
    run.assert_failed(&[
        "the server still holds connections",
        "3 of 3 connections ended unexpectedly",
    ]);
}

#[test]
fn half_closed_sockets_count_as_held() {
    let address = serve(|stream| {
        open(stream)?;
        stream.shutdown(Shutdown::Write)?;
        read_until_end(stream)
    });
    // The server sends FIN before the clients fall silent.
    let run = storm(address, &SILENT);
    run.assert_all("ended_early", CONNECTIONS);
    assert_eq!(run.status, 1);
}
