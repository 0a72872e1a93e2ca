use std::fmt;

use super::partial::Partial;

/// The partials, with their buffers, of connections that do not need one now.
pub(crate) struct Pool {
    #[expect(
        clippy::vec_box,
        reason = "the boxes are handed out, not what is in them"
    )]
    free: Vec<Box<Partial>>,
    /// The limit of `free`.
    count_max: usize,
    /// Bytes of the largest buffer that is kept.
    buffer_size_max: usize,
}

impl Pool {
    pub(crate) fn new(count_max: usize, buffer_size_max: usize) -> Self {
        Self {
            free: Vec::new(),
            count_max,
            buffer_size_max,
        }
    }

    #[cold]
    pub(super) fn take(&mut self) -> Box<Partial> {
        self.free.pop().unwrap_or_else(|| Box::new(Partial::new()))
    }

    pub(super) fn put(&mut self, mut partial: Box<Partial>) {
        if self.free.len() < self.count_max {
            partial.reset(self.buffer_size_max);
            self.free.push(partial);
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pool")
            .field("free", &self.free.len())
            .field("count_max", &self.count_max)
            .field("buffer_size_max", &self.buffer_size_max)
            .finish()
    }
}
