//! A client that publishes, and knows when all have got it.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::{
    beside::{LISTENS, PUBLISHES},
    child::Child,
    client,
    fanout::message,
};

/// For each shard: so many that none is without, as the kernel spreads them by chance.
const SENTINELS: u16 = 12;

pub(crate) struct Publisher {
    socket: TcpStream,
    /// Subscribers that came last, so that each shard delivers to them last, and that read at once.
    sentinels: Vec<TcpStream>,
    published: u64,
}

impl Publisher {
    /// Connects to a server to which all others have connected before.
    pub(crate) fn connect(child: &Child, shards: u16) -> Self {
        let open = |path| client::open(child.address, path, None);
        Self {
            sentinels: (0..SENTINELS * shards).map(|_| open(LISTENS)).collect(),
            socket: open(PUBLISHES),
            published: 0,
        }
    }

    /// Publishes `count` messages at once, and waits until they are delivered.
    pub(crate) fn publish(&mut self, count: u64) {
        let mut frames = Vec::new();
        let numbers = self.published..self.published + count;
        for number in numbers.clone() {
            message::write_masked(number, &mut frames);
        }
        self.socket.write_all(&frames).expect("it is open");
        let expected: Vec<u8> = numbers.flat_map(message::delivered).collect();
        let mut frames = vec![0; expected.len()];
        for sentinel in &mut self.sentinels {
            sentinel.read_exact(&mut frames).expect("it is delivered");
            assert!(frames == expected, "what is delivered was not published");
        }
        self.published += count;
    }

    /// Messages published so far.
    pub(crate) const fn published(&self) -> u64 {
        self.published
    }
}
