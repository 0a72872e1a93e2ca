//! Services of the server under test.

/// The behaviour of the server with regard to messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Service {
    /// Each message is echoed to its sender.
    Echo,
    /// As `Echo`; messages that are published by HTTP go to all connections.
    Broadcast,
    /// Each message goes to all subscribers of the topic in the sender's path.
    Topics {
        /// Number of topics.
        count: u32,
        /// Whether the sender receives its own messages.
        sender_included: bool,
    },
}

impl Service {
    /// Returns the subcommand of the child.
    pub(super) const fn command(self) -> &'static str {
        match self {
            Self::Echo | Self::Broadcast => "echo",
            Self::Topics { .. } => "serve",
        }
    }

    /// Returns the path of requests to the child.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Echo | Self::Broadcast => "/",
            Self::Topics {
                sender_included: true,
                ..
            } => "/fanout/{topic}",
            Self::Topics {
                sender_included: false,
                ..
            } => "/fanout/{topic}?echo=false",
        }
    }

    /// Returns the number of topics.
    pub(crate) const fn topics(self) -> u32 {
        match self {
            Self::Echo | Self::Broadcast => 1,
            Self::Topics { count, .. } => count,
        }
    }
}
