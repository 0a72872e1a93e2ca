//! A client that publishes, and waits until its messages are delivered.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::{fanout::message, handshake, server_process::ServerProcess};

/// Sentinels for each shard. The kernel distributes them at random; with so many, each shard has one.
const SENTINELS_PER_SHARD: u16 = 12;

/// Path of a subscriber.
pub(crate) const SUBSCRIBER_PATH: &str = "/listen";

/// Path of a publisher.
pub(crate) const PUBLISHER_PATH: &str = "/publish";

/// A client that publishes.
pub(crate) struct Publisher {
    socket: TcpStream,
    /// Subscribers that read at once.
    sentinels: Vec<TcpStream>,
    published: u64,
}

/// Connects subscribers that read at once, and so report when a message is delivered.
///
/// A shard delivers in the order of subscription, but the slices of a large fan-out begin with the newest subscribers.
/// So sentinels have to connect before all other subscribers, and after them.
pub(crate) fn sentinels(server: &ServerProcess, shards: u16) -> impl Iterator<Item = TcpStream> {
    (0..SENTINELS_PER_SHARD * shards)
        .map(|_| handshake::open(server.address, SUBSCRIBER_PATH, None))
}

impl Publisher {
    /// Connects to a server. A message counts as delivered when all `sentinels` have received it.
    pub(crate) fn connect(server: &ServerProcess, sentinels: Vec<TcpStream>) -> Self {
        Self {
            socket: handshake::open(server.address, PUBLISHER_PATH, None),
            sentinels,
            published: 0,
        }
    }

    /// Publishes `count` messages in one write, and waits until they are delivered.
    pub(crate) fn publish(&mut self, count: u64) {
        let mut frames = Vec::new();
        let numbers = self.published..self.published + count;
        for number in numbers.clone() {
            message::write_masked(number, &mut frames);
        }
        self.socket.write_all(&frames).expect("the socket is open");
        let expected: Vec<u8> = numbers.flat_map(message::delivered).collect();
        let mut frames = vec![0; expected.len()];
        for sentinel in &mut self.sentinels {
            sentinel
                .read_exact(&mut frames)
                .expect("the messages are delivered");
            assert!(
                frames == expected,
                "the delivered frames are the published ones"
            );
        }
        self.published += count;
    }

    /// Returns the number of messages published so far.
    pub(crate) const fn published(&self) -> u64 {
        self.published
    }
}
