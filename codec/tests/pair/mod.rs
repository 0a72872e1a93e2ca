//! A client and a server with a network between them, in virtual time.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::VecDeque;
use std::time::Duration;

use tidewheel_codec::{
    Cause, CloseCode, CloseFrame, Config, Connection, Disconnect, Endpoint, Event, Role, Time,
    Transmit,
};

pub(crate) const PING_INTERVAL_MS: u64 = 20_000;
pub(crate) const PING_TIMEOUT_MS: u64 = 20_000;
pub(crate) const CLOSE_TIMEOUT_MS: u64 = 10_000;

/// Longer than several round trips of the network.
pub(crate) const SETTLING_TIME: Duration = Duration::from_millis(50);

/// A segment of one direction of the network.
#[derive(Debug)]
enum Segment {
    Bytes(Vec<u8>),
    Fin,
    Rst,
}

/// One side: a connection, and the transport that a runtime would provide.
pub(crate) struct Side {
    pub(crate) endpoint: Endpoint,
    pub(crate) connection: Connection,
    pub(crate) out: Vec<u8>,
    pub(crate) texts: Vec<String>,
    /// The report of the end, and its time.
    pub(crate) disconnect: Option<(Time, Disconnect)>,
    /// The time of our FIN.
    pub(crate) finished: Option<Time>,
    /// The time of the end of the transport, and its kind.
    pub(crate) ended: Option<(Time, Transmit)>,
    /// Whether this side neither reads nor sends.
    pub(crate) is_suspended: bool,
    arrivals: VecDeque<(Time, Segment)>,
}

impl Side {
    fn new(config: Config, now: Time, seed: u64) -> Self {
        Self {
            endpoint: Endpoint::with_seed(config, seed).unwrap(),
            connection: Connection::new(now, 0),
            out: Vec::new(),
            texts: Vec::new(),
            disconnect: None,
            finished: None,
            ended: None,
            is_suspended: false,
            arrivals: VecDeque::new(),
        }
    }

    /// Returns the report of the end.
    pub(crate) fn end(&self) -> &Disconnect {
        &self
            .disconnect
            .as_ref()
            .expect("the connection has ended")
            .1
    }

    /// Starts the closing handshake with reason "bye".
    pub(crate) fn close(&mut self, code: CloseCode, cause: Cause, now: Time) {
        let (endpoint, out) = (&mut self.endpoint, &mut self.out);
        self.connection
            .start_closing_handshake(endpoint, code, "bye", cause, out, now)
            .unwrap();
    }

    /// Fails the connection.
    pub(crate) fn fail(&mut self, code: CloseCode, cause: Cause, now: Time) {
        let (endpoint, out) = (&mut self.endpoint, &mut self.out);
        self.connection.fail(endpoint, code, cause, out, now);
    }

    /// Returns the time of the next arrival or deadline.
    fn next(&self) -> Option<Time> {
        if self.ended.is_some() || self.is_suspended {
            return None;
        }
        let arrival = self.arrivals.front().map(|&(time, _)| time);
        let deadline = self.connection.poll_timeout(self.endpoint.config());
        arrival.into_iter().chain(deadline).min()
    }

    /// Receives the segments that have arrived, and handles deadlines.
    fn turn(&mut self, now: Time) {
        if self.ended.is_some() || self.is_suspended {
            return;
        }
        while let Some((_, segment)) = self.arrivals.pop_front_if(|(time, _)| *time <= now) {
            match segment {
                Segment::Bytes(mut bytes) => self.receive(&mut bytes, now),
                Segment::Fin => self.connection.receive_eof(now),
                Segment::Rst => self.connection.receive_reset(now),
            }
        }
        self.connection
            .handle_timeout(&mut self.endpoint, &mut self.out, now);
        if let Some(disconnect) = self.connection.poll_disconnect() {
            assert!(self.disconnect.is_none(), "a connection ends once");
            self.disconnect = Some((now, disconnect));
        }
    }

    fn receive(&mut self, bytes: &mut [u8], now: Time) {
        let mut input = self.connection.receive(bytes, now);
        while let Some(event) =
            self.connection
                .poll_event(&mut self.endpoint, &mut input, &mut self.out)
        {
            if let Event::Message(message) = event {
                self.texts
                    .push(message.as_text().expect("all messages are text").to_owned());
            }
        }
    }

    /// Returns the segments that this side sends.
    fn transmit(&mut self, now: Time) -> Vec<Segment> {
        if self.ended.is_some() || self.is_suspended {
            return Vec::new();
        }
        let mut segments = Vec::new();
        let transmit = self.connection.poll_transmit();
        if !self.out.is_empty() && transmit != Transmit::Reset {
            segments.push(Segment::Bytes(std::mem::take(&mut self.out)));
        }
        match transmit {
            Transmit::Nothing => {}
            Transmit::Finish if self.finished.is_some() => {}
            Transmit::Finish => {
                self.finished = Some(now);
                segments.push(Segment::Fin);
            }
            Transmit::Reset => {
                self.ended = Some((now, transmit));
                segments.push(Segment::Rst);
            }
            Transmit::Release => {
                self.ended = Some((now, transmit));
                if self.finished.is_none() {
                    segments.push(Segment::Fin);
                }
            }
        }
        segments
    }
}

/// A client and a server.
pub(crate) struct Pair {
    pub(crate) now: Time,
    pub(crate) client: Side,
    pub(crate) server: Side,
    /// The delay in each direction.
    pub(crate) latency: Duration,
    /// Whether the network drops all segments.
    pub(crate) is_cut: bool,
}

impl Pair {
    /// Returns a pair of which only the server pings.
    pub(crate) fn with_server_pings() -> Self {
        Self::new(client_without_pings(), Config::new(Role::Server))
    }

    pub(crate) fn new(client: Config, server: Config) -> Self {
        let now = Time::from_millis(1_000_000);
        Self {
            now,
            client: Side::new(client, now, 1),
            server: Side::new(server, now, 2),
            latency: Duration::from_millis(5),
            is_cut: false,
        }
    }

    /// Runs both sides for `duration`.
    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.turn();
            match [self.client.next(), self.server.next()]
                .into_iter()
                .flatten()
                .min()
            {
                Some(next) if next <= end => self.now = self.now.max(next),
                Some(_) | None => break,
            }
        }
        self.now = end;
        self.turn();
    }

    /// Runs both sides at the current time, and sends their output.
    pub(crate) fn turn(&mut self) {
        self.client.turn(self.now);
        self.server.turn(self.now);
        let arrival = self.now + self.latency;
        let there = self.client.transmit(self.now);
        let back = self.server.transmit(self.now);
        if !self.is_cut {
            self.server
                .arrivals
                .extend(there.into_iter().map(|segment| (arrival, segment)));
            self.client
                .arrivals
                .extend(back.into_iter().map(|segment| (arrival, segment)));
        }
    }

    /// Returns the milliseconds from `start` to `time`.
    pub(crate) fn millis_since(start: Time, time: Time) -> u64 {
        time.as_millis() - start.as_millis()
    }
}

/// Returns the configuration of a client without keepalive pings.
pub(crate) fn client_without_pings() -> Config {
    let mut config = Config::new(Role::Client);
    config.ping_interval = None;
    config
}

/// Returns the codes of the received and of the sent Close frame.
pub(crate) fn codes(disconnect: &Disconnect) -> (Option<CloseCode>, Option<CloseCode>) {
    let code = |frame: &Option<CloseFrame>| frame.as_ref().map(|close| close.code);
    (code(&disconnect.received), code(&disconnect.sent))
}
