//! What subscribers have received, by the sequence of each publisher.

use std::{collections::BTreeMap, ops::Range};

/// Who publishes where, and who is to get it: client `c` has subscribed to topic `c % topics`, and
/// the first clients publish as well, each to its own topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Topology {
    pub(crate) clients: u32,
    pub(crate) publishers: u32,
    pub(crate) topics: u32,
    /// Whether a publisher gets what it publishes.
    pub(crate) sender_included: bool,
}

impl Topology {
    pub(super) const fn topic_of(&self, client: u32) -> u32 {
        client % self.topics
    }

    /// Publishers of one topic, at most.
    const fn publishers_each(&self) -> u32 {
        self.publishers.div_ceil(self.topics)
    }

    /// The publishers that a client hears.
    pub(super) fn publishers_of(&self, client: u32) -> impl Iterator<Item = u32> + use<> {
        let topology = *self;
        (topology.topic_of(client)..topology.publishers)
            .step_by(topology.topics as usize)
            .filter(move |&publisher| topology.sender_included || publisher != client)
    }

    /// Whether a client is to get what `publisher` publishes.
    fn hears(&self, client: u32, publisher: u32) -> bool {
        publisher < self.publishers
            && self.topic_of(publisher) == self.topic_of(client)
            && (self.sender_included || publisher != client)
    }
}

/// What a message is to its receiver.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Receipt {
    /// The one after the last, or after some that were left out.
    InOrder,
    /// One that was left out before.
    Late,
    /// One that was received before.
    Duplicate,
    /// None that it was to get.
    Foreign,
}

/// What all subscribers have received.
#[derive(Debug)]
pub(super) struct Receipts {
    topology: Topology,
    /// The number of the next message of each publisher of its topic, for each client.
    next: Vec<u32>,
    /// What was left out so far, by client and publisher.
    left_out: BTreeMap<(u32, u32), Vec<Range<u32>>>,
}

impl Receipts {
    pub(super) fn new(topology: Topology) -> Self {
        let count = topology.clients as usize * topology.publishers_each() as usize;
        Self {
            topology,
            next: vec![0; count],
            left_out: BTreeMap::new(),
        }
    }

    /// Notes that `client` has received message `number` of `publisher`.
    pub(super) fn note(&mut self, client: u32, publisher: u32, number: u32) -> Receipt {
        if !self.topology.hears(client, publisher) {
            return Receipt::Foreign;
        }
        let next = self.next_mut(client, publisher);
        let expected = *next;
        if number >= expected {
            *next = number + 1;
            if number > expected {
                let gaps = self.left_out.entry((client, publisher)).or_default();
                gaps.push(expected..number);
            }
            return Receipt::InOrder;
        }
        let gaps = self.left_out.get_mut(&(client, publisher));
        match gaps.is_some_and(|gaps| take_out(gaps, number)) {
            true => Receipt::Late,
            false => Receipt::Duplicate,
        }
    }

    /// The messages that `client` is still to get of the first `published` of `publisher`.
    pub(super) fn owed(&mut self, client: u32, publisher: u32, published: u32) -> Vec<Range<u32>> {
        let tail = *self.next_mut(client, publisher)..published;
        let gaps = self.left_out.get(&(client, publisher));
        let mut owed = gaps.cloned().unwrap_or_default();
        owed.push(tail);
        owed
    }

    fn next_mut(&mut self, client: u32, publisher: u32) -> &mut u32 {
        let Topology { topics, .. } = self.topology;
        let first = client as usize * self.topology.publishers_each() as usize;
        &mut self.next[first + (publisher / topics) as usize]
    }
}

/// Takes `number` out of the gaps, if it is in one of them.
fn take_out(gaps: &mut Vec<Range<u32>>, number: u32) -> bool {
    let Some(index) = gaps.iter().position(|gap| gap.contains(&number)) else {
        return false;
    };
    let gap = gaps.swap_remove(index);
    let rest = [gap.start..number, number + 1..gap.end];
    gaps.extend(rest.into_iter().filter(|gap| !gap.is_empty()));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPOLOGY: Topology = Topology {
        clients: 6,
        publishers: 4,
        topics: 2,
        sender_included: true,
    };

    #[test]
    fn each_client_hears_the_publishers_of_its_topic() {
        let heard = |client, topology: &Topology| topology.publishers_of(client).collect();
        let heard = |client, topology| -> Vec<u32> { heard(client, topology) };
        assert_eq!(heard(4, &TOPOLOGY), [0, 2]);
        assert_eq!(heard(1, &TOPOLOGY), [1, 3]);
        let others = Topology {
            sender_included: false,
            ..TOPOLOGY
        };
        assert_eq!(heard(1, &others), [3]);
        let mut receipts = Receipts::new(others);
        assert_eq!(receipts.note(4, 1, 0), Receipt::Foreign);
        assert_eq!(receipts.note(4, 4, 0), Receipt::Foreign);
        assert_eq!(receipts.note(1, 1, 0), Receipt::Foreign);
        assert_eq!(receipts.note(1, 3, 0), Receipt::InOrder);
    }

    #[test]
    fn what_is_left_out_may_come_late_and_only_once() {
        let mut receipts = Receipts::new(TOPOLOGY);
        let mut note = |number| receipts.note(4, 2, number);
        assert_eq!(note(0), Receipt::InOrder);
        assert_eq!(note(0), Receipt::Duplicate);
        assert_eq!(note(5), Receipt::InOrder);
        assert_eq!(note(3), Receipt::Late);
        assert_eq!(note(3), Receipt::Duplicate);
        assert_eq!(note(1), Receipt::Late);
        assert_eq!(note(6), Receipt::InOrder);
        let owed = receipts.owed(4, 2, 9);
        let owed: Vec<u32> = owed.into_iter().flatten().collect();
        assert_eq!(owed, [4, 2, 7, 8]);
        // Another client and another publisher have sequences of their own.
        assert_eq!(receipts.note(2, 2, 0), Receipt::InOrder);
        assert_eq!(receipts.note(4, 0, 0), Receipt::InOrder);
    }
}
