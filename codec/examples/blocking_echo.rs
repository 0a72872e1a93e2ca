//! An echo server on blocking sockets, with one thread for each connection.
//!
//! `cargo run -p tidewheel-codec --example blocking_echo -- 127.0.0.1:9001 [--deflate | --takeover]`

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use tidewheel_codec::deflate::Deflate;
use tidewheel_codec::handshake::{Limits, Rejection, Request};
use tidewheel_codec::{Config, Connection, Endpoint, Event, Role, Time, Transmit};

const RECEIVE_BUFFER_SIZE: usize = 16 << 10;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let mut config = Config::new(Role::Server);
    config.deflate = arguments.next().map(|option| {
        let mut deflate = Deflate::default();
        deflate.context_takeover = option == "--takeover";
        deflate
    });
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let (stream, config) = (stream?, config.clone());
        std::thread::spawn(move || {
            if let Err(error) = serve(stream, config) {
                eprintln!("{error}");
            }
        });
    }
    Ok(())
}

/// Serves one client until the end of its connection.
fn serve(mut stream: TcpStream, config: Config) -> io::Result<()> {
    let start = now();
    let clock = move || Time::from_millis(now().duration_since(start).as_millis() as u64);
    let mut endpoint = Endpoint::new(config).map_err(io::Error::other)?;
    let mut received = Vec::new();
    let mut connection = match accept(&mut stream, &endpoint, &mut received, clock())? {
        Ok(connection) => connection,
        Err(rejection) => {
            let mut out = Vec::new();
            rejection.write(&mut out);
            return stream.write_all(&out);
        }
    };
    let (mut out, mut has_finished) = (Vec::new(), false);
    loop {
        let mut input = connection.receive(&mut received, clock());
        let mut replies = Vec::new();
        while let Some(event) = connection.poll_event(&mut endpoint, &mut input, &mut out) {
            if let Event::Message(message) = event {
                replies.push((
                    message.as_text().map(str::to_owned),
                    message.payload().to_vec(),
                ));
            }
        }
        for (text, payload) in replies {
            // An error means that the connection is closing, and needs no echo.
            let _ = match text {
                Some(text) => connection.send_text(&mut endpoint, &text, &mut out),
                None => connection.send_binary(&mut endpoint, &payload, &mut out),
            };
        }
        connection.handle_timeout(&mut endpoint, &mut out, clock());
        if let Some(end) = connection.poll_disconnect() {
            println!(
                "{} by {}, code {}",
                end.cause.as_str(),
                end.initiator.as_str(),
                end.code()
            );
        }
        stream.write_all(&out)?;
        out.clear();
        match connection.poll_transmit() {
            Transmit::Nothing => {}
            Transmit::Finish if has_finished => {}
            Transmit::Finish => {
                has_finished = true;
                stream.shutdown(Shutdown::Write)?;
            }
            Transmit::Reset | Transmit::Release => return Ok(()),
        }
        let deadline = connection.poll_timeout(endpoint.config());
        let wait = deadline.map(|deadline| deadline.since(clock()).max(Duration::from_millis(1)));
        stream.set_read_timeout(wait)?;
        received.resize(RECEIVE_BUFFER_SIZE, 0);
        match stream.read(&mut received) {
            Ok(0) => {
                received.clear();
                connection.receive_eof(clock());
            }
            Ok(size) => received.truncate(size),
            Err(error) => {
                received.clear();
                if !matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) {
                    connection.receive_reset(clock());
                }
            }
        }
    }
}

/// Reads the request and answers it. Bytes after the request stay in `received`.
fn accept(
    stream: &mut TcpStream,
    endpoint: &Endpoint,
    received: &mut Vec<u8>,
    now: Time,
) -> io::Result<Result<Connection, Rejection>> {
    let mut buffer = [0; 4096];
    loop {
        let size = stream.read(&mut buffer)?;
        if size == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(&buffer[..size]);
        let (request, request_size) = match Request::parse(received, &Limits::default()) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => continue,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let mut accept = match request.upgrade() {
            Ok(accept) => accept,
            Err(rejection) => return Ok(Err(rejection)),
        };
        let mut connection = Connection::new(now, 0);
        if let Some(agreement) = endpoint.accept_deflate(request.extensions()) {
            accept = accept.with_extensions(agreement.to_string());
            connection = connection.with_deflate(agreement);
        }
        let mut out = Vec::new();
        accept.write(&mut out);
        stream.write_all(&out)?;
        received.drain(..request_size);
        return Ok(Ok(connection));
    }
}

#[expect(clippy::disallowed_methods, reason = "the application owns the clock")]
fn now() -> Instant {
    Instant::now()
}
