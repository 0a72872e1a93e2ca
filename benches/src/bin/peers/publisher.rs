//! A client that publishes, and knows when all have got it.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::{child::Child, client, fanout::message};

/// For each shard: so many that none is without, as the kernel spreads them by chance.
const SENTINELS: u16 = 12;

/// The path of a client that gets what is published.
pub(crate) const LISTENS: &str = "/listen";

/// The path of a client that publishes what it sends.
pub(crate) const PUBLISHES: &str = "/publish";

pub(crate) struct Publisher {
    socket: TcpStream,
    sentinels: Vec<TcpStream>,
    published: u64,
}

/// Subscribers that read at once. A shard delivers last to those that came last; but if they are so
/// many that it does so in slices, these begin with the last, and those that came first are in the
/// last slice, which is a small one.
pub(crate) fn sentinels(child: &Child, shards: u16) -> impl Iterator<Item = TcpStream> {
    (0..SENTINELS * shards).map(|_| client::open(child.address, LISTENS, None))
}

impl Publisher {
    /// Connects to a server; when all `sentinels` have a message, all others have it, too.
    pub(crate) fn connect(child: &Child, sentinels: Vec<TcpStream>) -> Self {
        Self {
            socket: client::open(child.address, PUBLISHES, None),
            sentinels,
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
