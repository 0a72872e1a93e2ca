//! Messages that subscribers have received, by the sequence of each publisher.

use std::{collections::BTreeMap, ops::Range};

use crate::session::topology::Topology;

/// Classification of a received message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Receipt {
    /// The next message, perhaps after missing ones.
    InOrder,
    /// A message that was missing so far.
    Late,
    /// A message that was received before.
    Duplicate,
    /// A message that was not for this client.
    Foreign,
}

/// Received and missing messages of all subscribers.
#[derive(Debug)]
pub(super) struct Receipts {
    topology: Topology,
    /// For each client, and each publisher of its topic: the number of the next message.
    next: Vec<u32>,
    /// Missing messages before the next one, by client and publisher.
    gaps: BTreeMap<(u32, u32), Vec<Range<u32>>>,
}

impl Receipts {
    pub(super) fn new(topology: Topology) -> Self {
        let count = topology.clients as usize * topology.topic_publishers_max() as usize;
        Self {
            topology,
            next: vec![0; count],
            gaps: BTreeMap::new(),
        }
    }

    /// Records that `client` has received message `number` of `publisher`.
    pub(super) fn record(&mut self, client: u32, publisher: u32, number: u32) -> Receipt {
        if !self.topology.receives(client, publisher) {
            return Receipt::Foreign;
        }
        let next = self.next_mut(client, publisher);
        let expected = *next;
        if number >= expected {
            *next = number + 1;
            if number > expected {
                let gaps = self.gaps.entry((client, publisher)).or_default();
                gaps.push(expected..number);
            }
            return Receipt::InOrder;
        }
        let gaps = self.gaps.get_mut(&(client, publisher));
        match gaps.is_some_and(|gaps| remove_from_gaps(gaps, number)) {
            true => Receipt::Late,
            false => Receipt::Duplicate,
        }
    }

    /// Returns the messages that `client` has not received of the first `published` of `publisher`.
    pub(super) fn missing(
        &mut self,
        client: u32,
        publisher: u32,
        published: u32,
    ) -> Vec<Range<u32>> {
        let tail = *self.next_mut(client, publisher)..published;
        let gaps = self.gaps.get(&(client, publisher));
        let mut missing = gaps.cloned().unwrap_or_default();
        missing.push(tail);
        missing
    }

    fn next_mut(&mut self, client: u32, publisher: u32) -> &mut u32 {
        let Topology { topics, .. } = self.topology;
        let first = client as usize * self.topology.topic_publishers_max() as usize;
        &mut self.next[first + (publisher / topics) as usize]
    }
}

/// Removes `number` from the gaps; returns whether it was in one of them.
fn remove_from_gaps(gaps: &mut Vec<Range<u32>>, number: u32) -> bool {
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
    fn each_client_receives_the_messages_of_its_topic() {
        let publishers = |client, topology: &Topology| topology.publishers_of(client).collect();
        let publishers = |client, topology| -> Vec<u32> { publishers(client, topology) };
        assert_eq!(publishers(4, &TOPOLOGY), [0, 2]);
        assert_eq!(publishers(1, &TOPOLOGY), [1, 3]);
        let others = Topology {
            sender_included: false,
            ..TOPOLOGY
        };
        assert_eq!(publishers(1, &others), [3]);
        let mut receipts = Receipts::new(others);
        assert_eq!(receipts.record(4, 1, 0), Receipt::Foreign);
        assert_eq!(receipts.record(4, 4, 0), Receipt::Foreign);
        assert_eq!(receipts.record(1, 1, 0), Receipt::Foreign);
        assert_eq!(receipts.record(1, 3, 0), Receipt::InOrder);
    }

    #[test]
    fn a_missing_message_may_arrive_late_but_only_once() {
        let mut receipts = Receipts::new(TOPOLOGY);
        let mut record = |number| receipts.record(4, 2, number);
        assert_eq!(record(0), Receipt::InOrder);
        assert_eq!(record(0), Receipt::Duplicate);
        assert_eq!(record(5), Receipt::InOrder);
        assert_eq!(record(3), Receipt::Late);
        assert_eq!(record(3), Receipt::Duplicate);
        assert_eq!(record(1), Receipt::Late);
        assert_eq!(record(6), Receipt::InOrder);
        let missing = receipts.missing(4, 2, 9);
        let missing: Vec<u32> = missing.into_iter().flatten().collect();
        assert_eq!(missing, [4, 2, 7, 8]);
        // Each client has a sequence for each publisher.
        assert_eq!(receipts.record(2, 2, 0), Receipt::InOrder);
        assert_eq!(receipts.record(4, 0, 0), Receipt::InOrder);
    }
}
