//! Topics, their publishers and their subscribers.

/// Subscribers and publishers of topics: client `c` subscribes to topic `c % topics`, and the first
/// clients also publish, each to the topic that it subscribes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Topology {
    pub(crate) clients: u32,
    pub(crate) publishers: u32,
    pub(crate) topics: u32,
    /// Whether a publisher receives its own messages.
    pub(crate) sender_included: bool,
}

impl Topology {
    /// Returns the topic of a client.
    pub(crate) const fn topic_of(&self, client: u32) -> u32 {
        client % self.topics
    }

    /// Returns the largest number of publishers of one topic.
    pub(crate) const fn topic_publishers_max(&self) -> u32 {
        self.publishers.div_ceil(self.topics)
    }

    /// Returns the publishers whose messages a client receives.
    pub(crate) fn publishers_of(&self, client: u32) -> impl Iterator<Item = u32> + use<> {
        let topology = *self;
        (topology.topic_of(client)..topology.publishers)
            .step_by(topology.topics as usize)
            .filter(move |&publisher| topology.sender_included || publisher != client)
    }

    /// Returns whether a client is to receive the messages of `publisher`.
    pub(crate) fn receives(&self, client: u32, publisher: u32) -> bool {
        publisher < self.publishers
            && self.topic_of(publisher) == self.topic_of(client)
            && (self.sender_included || publisher != client)
    }
}
