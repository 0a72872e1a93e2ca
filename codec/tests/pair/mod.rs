//! A client and a server with a link between them, in virtual time: no socket and no sleep.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::VecDeque;
use std::time::Duration;

use tidewheel_codec::{Config, Connection, Disconnect, Endpoint, Event, Time, Transmit};

/// What travels on a direction of the link.
#[derive(Debug)]
enum Parcel {
    Bytes(Vec<u8>),
    Fin,
    Rst,
}

/// One end: a connection, and the shell that a runtime would put around it.
pub(crate) struct Side {
    pub(crate) endpoint: Endpoint,
    pub(crate) connection: Connection,
    pub(crate) out: Vec<u8>,
    pub(crate) texts: Vec<String>,
    pub(crate) disconnect: Option<(Time, Disconnect)>,
    /// When our FIN went out.
    pub(crate) finished: Option<Time>,
    /// When the transport was released or reset, and which.
    pub(crate) gone: Option<(Time, Transmit)>,
    /// Whether this side runs at all: a mute one reads and answers nothing.
    pub(crate) mute: bool,
    inbox: VecDeque<(Time, Parcel)>,
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
            gone: None,
            mute: false,
            inbox: VecDeque::new(),
        }
    }

    fn next(&self) -> Option<Time> {
        if self.gone.is_some() || self.mute {
            return None;
        }
        let arrival = self.inbox.front().map(|&(time, _)| time);
        let deadline = self.connection.poll_timeout(self.endpoint.config());
        arrival.into_iter().chain(deadline).min()
    }

    /// Receives what has arrived, and does what is due.
    fn turn(&mut self, now: Time) {
        if self.gone.is_some() || self.mute {
            return;
        }
        while let Some((_, parcel)) = self.inbox.pop_front_if(|(time, _)| *time <= now) {
            match parcel {
                Parcel::Bytes(mut bytes) => self.receive(&mut bytes, now),
                Parcel::Fin => self.connection.receive_eof(now),
                Parcel::Rst => self.connection.receive_reset(now),
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
                    .push(message.as_text().expect("texts are sent").to_owned());
            }
        }
    }

    /// What this side puts on the link.
    fn transmit(&mut self, now: Time) -> Vec<Parcel> {
        if self.gone.is_some() || self.mute {
            return Vec::new();
        }
        let mut parcels = Vec::new();
        let transmit = self.connection.poll_transmit();
        if !self.out.is_empty() && transmit != Transmit::Reset {
            parcels.push(Parcel::Bytes(std::mem::take(&mut self.out)));
        }
        match transmit {
            Transmit::Nothing => {}
            Transmit::Finish if self.finished.is_some() => {}
            Transmit::Finish => {
                self.finished = Some(now);
                parcels.push(Parcel::Fin);
            }
            Transmit::Reset => {
                self.gone = Some((now, transmit));
                parcels.push(Parcel::Rst);
            }
            Transmit::Release => {
                self.gone = Some((now, transmit));
                if self.finished.is_none() {
                    parcels.push(Parcel::Fin);
                }
            }
        }
        parcels
    }
}

pub(crate) struct Pair {
    pub(crate) now: Time,
    pub(crate) client: Side,
    pub(crate) server: Side,
    /// One way.
    pub(crate) latency: Duration,
    /// Whether everything is lost, with no sign of it: no FIN, no RST.
    pub(crate) cut: bool,
}

impl Pair {
    pub(crate) fn new(client: Config, server: Config) -> Self {
        let now = Time::from_millis(1_000_000);
        Self {
            now,
            client: Side::new(client, now, 1),
            server: Side::new(server, now, 2),
            latency: Duration::from_millis(5),
            cut: false,
        }
    }

    /// Runs both sides until nothing is due before `passed` from now.
    pub(crate) fn run_for(&mut self, passed: Duration) {
        let end = self.now + passed;
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

    /// Sends what was appended to `out` by the test itself.
    pub(crate) fn turn(&mut self) {
        self.client.turn(self.now);
        self.server.turn(self.now);
        let arrival = self.now + self.latency;
        let there = self.client.transmit(self.now);
        let back = self.server.transmit(self.now);
        if !self.cut {
            self.server
                .inbox
                .extend(there.into_iter().map(|parcel| (arrival, parcel)));
            self.client
                .inbox
                .extend(back.into_iter().map(|parcel| (arrival, parcel)));
        }
    }

    /// Milliseconds from `start` to `time`.
    pub(crate) fn millis_since(start: Time, time: Time) -> u64 {
        time.as_millis() - start.as_millis()
    }
}
