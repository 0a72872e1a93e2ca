//! The hashed wheel of textbooks: each slot is a doubly linked list through the records, and a reschedule moves the timer
//! at once.

use crate::candidates::{Candidate, Record};

const SLOTS: usize = 4096;
const NIL: u32 = u32::MAX;

#[derive(Copy, Clone)]
pub(crate) struct Links {
    next: u32,
    previous: u32,
    /// Deadline in ticks; 0 if the timer is not set.
    deadline: u32,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            next: NIL,
            previous: NIL,
            deadline: 0,
        }
    }
}

pub(crate) struct ListWheel {
    heads: Box<[u32; SLOTS]>,
    records: Vec<Record<Links>>,
    expired: u64,
}

impl ListWheel {
    fn links(&mut self, id: u32) -> &mut Links {
        &mut self.records[id as usize].timer
    }

    fn link(&mut self, id: u32, deadline: u32) {
        let slot = deadline as usize % SLOTS;
        let next = std::mem::replace(&mut self.heads[slot], id);
        *self.links(id) = Links {
            next,
            previous: NIL,
            deadline,
        };
        if next != NIL {
            self.links(next).previous = id;
        }
    }

    fn unlink(&mut self, id: u32) {
        let Links {
            next,
            previous,
            deadline,
        } = std::mem::take(self.links(id));
        match previous {
            NIL => self.heads[deadline as usize % SLOTS] = next,
            previous => self.links(previous).next = next,
        }
        if next != NIL {
            self.links(next).previous = previous;
        }
    }
}

impl Candidate for ListWheel {
    const RECORD_BYTES: f64 = size_of::<Links>() as f64;

    fn new(count: u32) -> Self {
        Self {
            heads: Box::new([NIL; SLOTS]),
            records: (0..count).map(|_| Record::default()).collect(),
            expired: 0,
        }
    }

    fn set(&mut self, id: u32, deadline: u32) {
        if self.records[id as usize].touch().deadline != 0 {
            self.unlink(id);
        }
        self.link(id, deadline);
    }

    fn clear(&mut self, id: u32) {
        if self.records[id as usize].touch().deadline != 0 {
            self.unlink(id);
        }
    }

    fn advance(&mut self, now: u32) -> bool {
        let slot = now as usize % SLOTS;
        let mut id = self.heads[slot];
        while id != NIL {
            let Links { next, deadline, .. } = *self.records[id as usize].touch();
            // No deadline of the workload is further away than one revolution.
            assert!(deadline <= now);
            self.unlink(id);
            self.expired += 1;
            id = next;
        }
        true
    }

    fn expired(&self) -> u64 {
        self.expired
    }
}
