//! A client that reads slowly.

use std::{io::Read as _, time::Duration};

use crate::support::{
    client::{Client, PING, PONG, Received, frame},
    ms, wait,
};

/// A client that reads at a limited rate, and answers Pings when it reads them.
#[derive(Debug)]
pub(crate) struct SlowReader {
    pub(crate) client: Client,
    /// Bytes read in one [`TICK`] at most.
    bytes_per_tick: usize,
    /// Bytes of an incomplete frame.
    incomplete: Vec<u8>,
    /// Number of Pongs sent.
    pongs: u32,
}

/// Time between two reads.
pub(crate) const TICK: Duration = ms(100);

impl SlowReader {
    pub(crate) fn new(client: Client, bytes_per_tick: usize) -> Self {
        Self {
            client,
            bytes_per_tick,
            incomplete: Vec::new(),
            pongs: 0,
        }
    }

    /// Reads for one tick, and returns the messages and the Close that are complete.
    ///
    /// # Panics
    /// If TCP has ended.
    pub(crate) fn read(&mut self) -> Vec<Received> {
        let mut chunk = vec![0; self.bytes_per_tick];
        // A timeout is no error: the reader continues in the next tick.
        self.client.set_timeout(TICK);
        if let Ok(count) = self.client.stream.read(&mut chunk) {
            assert!(count > 0, "the server ended the connection");
            self.incomplete.extend(&chunk[..count]);
        }
        let mut messages = Vec::new();
        while let Some((frame, size)) = first_frame(&self.incomplete) {
            self.incomplete.drain(..size);
            match frame.first {
                PING => {
                    self.client.send(&self::frame(PONG, &frame.payload));
                    self.pongs += 1;
                }
                _ => messages.push(frame),
            }
        }
        wait::pause(TICK);
        messages
    }

    /// Reads and discards bytes for one tick. Returns `false` if no bytes came or TCP has ended.
    pub(crate) fn discard(&mut self) -> bool {
        let mut chunk = vec![0; self.bytes_per_tick];
        let count = self.client.stream.read(&mut chunk).unwrap_or_default();
        wait::pause(TICK);
        count > 0
    }

    pub(crate) fn pongs(&self) -> u32 {
        self.pongs
    }
}

/// Returns the frame at the start of `bytes` and its size, if the frame is complete.
fn first_frame(bytes: &[u8]) -> Option<(Received, usize)> {
    let (head, length) = match *bytes.get(1)? {
        126 => {
            let length = bytes.get(2..4)?.try_into().expect("2 bytes");
            (4, usize::from(u16::from_be_bytes(length)))
        }
        127 => {
            let length = bytes.get(2..10)?.try_into().expect("8 bytes");
            (10, u64::from_be_bytes(length) as usize)
        }
        length => (2, usize::from(length)),
    };
    let payload = bytes.get(head..head + length)?;
    Some((Received::new(bytes[0], payload), head + length))
}
