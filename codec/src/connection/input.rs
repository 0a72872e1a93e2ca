use crate::time::Time;

/// Received bytes that are not read yet, and the time of their arrival.
#[derive(Debug)]
pub struct Input<'b> {
    bytes: &'b mut [u8],
    now: Time,
    frames_left: u32,
}

impl<'b> Input<'b> {
    #[inline]
    pub(super) const fn new(bytes: &'b mut [u8], now: Time) -> Self {
        Self {
            bytes,
            now,
            frames_left: u32::MAX,
        }
    }

    /// Limits the frames that are read to `frames`, including fragments and control frames.
    ///
    /// Beyond the limit, [`poll_event`](crate::Connection::poll_event) returns `None`, and
    /// [`into_rest`](Self::into_rest) returns the unread bytes.
    #[must_use]
    pub const fn with_frames_max(mut self, frames: u32) -> Self {
        self.frames_left = frames;
        self
    }

    /// Returns the number of frames that may still be read.
    #[inline]
    #[must_use]
    pub const fn frames_left(&self) -> u32 {
        self.frames_left
    }

    /// Returns whether all bytes are read.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the unread bytes. They have to be [received](crate::Connection::receive) again before any
    /// other bytes.
    #[must_use]
    pub fn into_rest(self) -> &'b mut [u8] {
        self.bytes
    }

    #[inline]
    pub(super) const fn now(&self) -> Time {
        self.now
    }

    #[inline]
    pub(super) const fn bytes_mut(&mut self) -> &mut &'b mut [u8] {
        &mut self.bytes
    }

    /// Returns the unread bytes and the number of frames that may still be read.
    #[inline]
    pub(super) const fn parts_mut(&mut self) -> (&mut &'b mut [u8], &mut u32) {
        (&mut self.bytes, &mut self.frames_left)
    }

    /// Counts one frame that was read.
    #[inline]
    pub(super) const fn count_frame(&mut self) {
        self.frames_left -= 1;
    }
}
