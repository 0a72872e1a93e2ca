//! Handles of topics.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::SlowConsumer;

/// A topic that an application publishes to again and again. Cloning it is cheap, and any thread may use it. To
/// subscribe to it, pass its [`name`](Self::name) to [`Link::subscribe`](crate::Link::subscribe).
///
/// [`Link::topic`](crate::Link::topic) and [`Publisher::topic`](crate::Publisher::topic) make it. They check and
/// hash the name, and find the [rule](crate::TopicRule) of the topic. Publishing through the handle does none of
/// these, and it copies no name. A shard searches for the topic by its name only after the topic has got its first
/// subscriber there; patterns are matched for each message.
///
/// A handle belongs to the server that made it. On another server it works like its name.
#[derive(Clone)]
pub struct Topic(Arc<Resolved>);

struct Resolved {
    name: Box<str>,
    /// The hash of the name.
    key: u64,
    /// The policy of the first rule that matches the name.
    policy: Option<SlowConsumer>,
    /// The number of the server, unique in the process.
    server: u64,
    /// The place of the topic on each shard.
    places: Box<[Place]>,
}

/// The place of a topic on a shard when the shard last searched for it: a number, and a generation, because numbers
/// are used again. Only the shard uses it.
#[derive(Default)]
pub(crate) struct Place(AtomicU64);

impl Topic {
    /// Makes the handle of a valid topic.
    pub(crate) fn new(
        name: &str,
        key: u64,
        policy: Option<SlowConsumer>,
        server: u64,
        shards: usize,
    ) -> Self {
        Self(Arc::new(Resolved {
            name: name.into(),
            key,
            policy,
            server,
            places: (0..shards).map(|_| Place::default()).collect(),
        }))
    }

    /// The name of the topic.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn key(&self) -> u64 {
        self.0.key
    }

    pub(crate) fn policy(&self) -> Option<SlowConsumer> {
        self.0.policy
    }

    pub(crate) fn server(&self) -> u64 {
        self.0.server
    }

    pub(crate) fn place(&self, shard: u16) -> Option<&Place> {
        self.0.places.get(usize::from(shard))
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Topic").field(&self.name()).finish()
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Place {
    /// The number and the generation.
    pub(crate) fn get(&self) -> (u32, u32) {
        let packed = self.0.load(Ordering::Relaxed);
        (packed as u32, (packed >> 32) as u32)
    }

    pub(crate) fn set(&self, number: u32, generation: u32) {
        let packed = u64::from(generation) << 32 | u64::from(number);
        self.0.store(packed, Ordering::Relaxed);
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.get()).finish()
    }
}

/// A topic to publish to: its name, as a string of any type, or a [`Topic`]. It cannot be implemented elsewhere.
pub trait AsTopic: sealed::Sealed {}

impl<T: sealed::Sealed + ?Sized> AsTopic for T {}

/// A topic to publish to.
#[derive(Clone, Copy, Debug)]
pub enum TopicRef<'t> {
    Name(&'t str),
    Handle(&'t Topic),
}

mod sealed {
    use std::{borrow::Cow, rc::Rc, sync::Arc};

    use super::{Topic, TopicRef};

    pub trait Sealed {
        fn topic_ref(&self) -> TopicRef<'_>;
    }

    impl Sealed for str {
        fn topic_ref(&self) -> TopicRef<'_> {
            TopicRef::Name(self)
        }
    }

    impl Sealed for String {
        fn topic_ref(&self) -> TopicRef<'_> {
            TopicRef::Name(self)
        }
    }

    impl Sealed for Cow<'_, str> {
        fn topic_ref(&self) -> TopicRef<'_> {
            TopicRef::Name(self)
        }
    }

    impl Sealed for Topic {
        fn topic_ref(&self) -> TopicRef<'_> {
            TopicRef::Handle(self)
        }
    }

    impl<T: Sealed + ?Sized> Sealed for &T {
        fn topic_ref(&self) -> TopicRef<'_> {
            (**self).topic_ref()
        }
    }

    impl<T: Sealed + ?Sized> Sealed for &mut T {
        fn topic_ref(&self) -> TopicRef<'_> {
            (**self).topic_ref()
        }
    }

    impl<T: Sealed + ?Sized> Sealed for Box<T> {
        fn topic_ref(&self) -> TopicRef<'_> {
            (**self).topic_ref()
        }
    }

    impl<T: Sealed + ?Sized> Sealed for Rc<T> {
        fn topic_ref(&self) -> TopicRef<'_> {
            (**self).topic_ref()
        }
    }

    impl<T: Sealed + ?Sized> Sealed for Arc<T> {
        fn topic_ref(&self) -> TopicRef<'_> {
            (**self).topic_ref()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_keeps_number_and_generation() {
        let place = Place::default();
        assert_eq!(place.get(), (0, 0));
        place.set(7, u32::MAX);
        assert_eq!(place.get(), (7, u32::MAX));
    }
}
