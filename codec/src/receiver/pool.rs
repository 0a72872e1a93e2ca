use std::fmt;

use super::partial::Partial;

/// The partials, with their buffers, of connections that do not need one now.
pub(crate) struct Pool {
    #[expect(
        clippy::vec_box,
        reason = "the boxes are handed out, not what is in them"
    )]
    free: Vec<Box<Partial>>,
    /// What `free` holds.
    bytes: usize,
    /// The limit of `bytes`.
    bytes_max: usize,
}

impl Pool {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            free: Vec::new(),
            bytes: 0,
            bytes_max,
        }
    }

    #[cold]
    pub(super) fn take(&mut self) -> Box<Partial> {
        match self.free.pop() {
            Some(partial) => {
                self.bytes -= partial.size();
                partial
            }
            None => Box::new(Partial::new()),
        }
    }

    pub(super) fn put(&mut self, mut partial: Box<Partial>) {
        partial.reset();
        if self.bytes + partial.size() <= self.bytes_max {
            self.bytes += partial.size();
            self.free.push(partial);
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pool")
            .field("free", &self.free.len())
            .field("bytes", &self.bytes)
            .field("bytes_max", &self.bytes_max)
            .finish()
    }
}
