//! The nodes of the subscription lists of all connections.

use std::ops::{Index, IndexMut};

/// No node.
pub(super) const NIL: u32 = u32::MAX;

/// Length up to which a vector grows by an eighth.
const SHORT_LENGTH_MAX: usize = 512;

/// The list of a connection's subscriptions.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Subscriptions {
    pub(super) first: u32,
}

impl Subscriptions {
    pub(in super::super) fn is_empty(self) -> bool {
        self.first == NIL
    }
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self { first: NIL }
    }
}

/// The node of a subscription in the list of its connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) topic: u32,
    /// The index of the entry in the topic.
    pub(super) place: u32,
    /// The connection's next node, or the next free node.
    pub(super) next: u32,
}

/// All nodes, and the list of the free ones.
#[derive(Debug)]
pub(super) struct Nodes {
    /// Address space for one subscription of each connection is reserved with the first.
    nodes: Vec<Node>,
    places: usize,
    /// The first free node.
    free: u32,
}

impl Nodes {
    pub(super) fn new(places: usize) -> Self {
        Self {
            nodes: Vec::new(),
            places,
            free: NIL,
        }
    }

    /// Adds a node. Returns its index.
    pub(super) fn add(&mut self, node: Node) -> u32 {
        if self.free == NIL {
            if self.nodes.capacity() == 0 {
                self.nodes.reserve_exact(self.places);
            }
            reserve_one(&mut self.nodes);
            self.nodes.push(node);
            return self.nodes.len() as u32 - 1;
        }
        let index = self.free;
        self.free = self[index].next;
        self[index] = node;
        index
    }

    /// Frees a node, which is in no list any more.
    pub(super) fn free(&mut self, node: u32) {
        self[node].next = self.free;
        self.free = node;
    }

    /// Frees all nodes and their memory.
    pub(super) fn clear(&mut self) {
        self.nodes = Vec::new();
        self.free = NIL;
    }

    /// Memory in bytes.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>()
    }
}

impl Index<u32> for Nodes {
    type Output = Node;

    fn index(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }
}

impl IndexMut<u32> for Nodes {
    fn index_mut(&mut self, node: u32) -> &mut Node {
        &mut self.nodes[node as usize]
    }
}

/// Makes space for one more element. A short vector grows by an eighth, because a subscription should cost few
/// bytes. A long one doubles: untouched memory is not resident, but memory left behind by a copy stays resident.
pub(super) fn reserve_one<T>(vector: &mut Vec<T>) {
    let length = vector.len();
    if length == vector.capacity() {
        vector.reserve_exact(match length < SHORT_LENGTH_MAX {
            true => 1 + length / 8,
            false => length,
        });
    }
}
