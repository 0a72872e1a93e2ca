//! Policies for clients that read too slowly.

/// The policy for a client that reads more slowly than messages to it are queued.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum SlowConsumer {
    /// Closes the connection with 1008, policy violation.
    #[default]
    Close,
    /// Closes the connection with 1013, try again later.
    CloseTryAgain,
    /// Drops the oldest queued messages until the queue has room. When the client has read the others,
    /// [`Handler::gap`](crate::Handler::gap) is called with the number of dropped messages.
    DropOldest,
    /// Replaces the queued messages of a topic by its newest message, while the client has not read everything.
    /// [`Handler::gap`](crate::Handler::gap) is called with the number of replaced messages.
    Conflate,
    /// Drops new messages while the queue is full. When the queue is empty again,
    /// [`Handler::gap`](crate::Handler::gap) is called with the number of dropped messages.
    DropNewest,
}

/// The slow-consumer policy for the messages of some topics.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct TopicRule {
    /// A topic, or a pattern: `prices/*`, `orders/>`.
    pub pattern: String,
    /// The policy for a subscriber that reads too slowly.
    pub slow_consumer: SlowConsumer,
}

impl TopicRule {
    /// Returns a policy for the topics of a pattern.
    #[must_use]
    pub fn new(pattern: impl Into<String>, slow_consumer: SlowConsumer) -> Self {
        Self {
            pattern: pattern.into(),
            slow_consumer,
        }
    }
}

impl SlowConsumer {
    /// Whether the policy closes the connection. Otherwise it drops messages.
    pub(crate) const fn closes(self) -> bool {
        match self {
            Self::Close | Self::CloseTryAgain => true,
            Self::DropOldest | Self::DropNewest | Self::Conflate => false,
        }
    }

    /// Whether the policy drops queued messages.
    pub(crate) const fn drops_oldest(self) -> bool {
        match self {
            Self::DropOldest | Self::Conflate => true,
            Self::Close | Self::CloseTryAgain | Self::DropNewest => false,
        }
    }
}
