//! Limits on the work of reading, for a turn and for a connection.
//!
//! A turn has a quota. Each completed receive, and each connection that waits with unread bytes, gets a part of
//! it. When the turn's quota is used up, bytes that have just arrived still get a small part, and waiting
//! connections wait for the next turn. So a flood delays the other connections by no more than the quota of one
//! turn.

/// A quota of work on received bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ReadQuota {
    /// Frames, including control frames and fragments.
    frames: u32,
    /// Payload bytes of messages.
    bytes: usize,
    /// Work of compression in bytes ([`Endpoint::deflate_work`](tidewheel_codec::Endpoint::deflate_work)), with
    /// [`MESSAGE_WORK`] for each message of a connection with compression.
    deflate_work: usize,
}

/// Work of compression for a message in bytes, in addition to that for its own bytes.
const MESSAGE_WORK: usize = 4 << 10;

/// Quota of one turn of the shards on a core: some 1 to 3 ms of work.
pub(crate) const TURN: ReadQuota = ReadQuota {
    frames: 16 << 10,
    bytes: 4 << 20,
    deflate_work: 512 << 10,
};

/// Quota of one connection, at least, before the next connection is read.
pub(crate) const CONNECTION: ReadQuota = ReadQuota {
    frames: 1 << 10,
    bytes: 1 << 20,
    deflate_work: 64 << 10,
};

/// Quota of one connection when the turn's quota is used up. A message that was begun is read to its end.
pub(in crate::shard) const MINIMUM: ReadQuota = ReadQuota {
    frames: 64,
    bytes: 16 << 10,
    deflate_work: 4 << 10,
};

impl ReadQuota {
    /// One of `shards` equal parts.
    pub(in crate::shard) fn divided_by(self, shards: u16) -> Self {
        let shards = usize::from(shards.max(1));
        Self {
            frames: (self.frames / shards as u32).max(MINIMUM.frames),
            bytes: (self.bytes / shards).max(MINIMUM.bytes),
            deflate_work: (self.deflate_work / shards).max(MINIMUM.deflate_work),
        }
    }

    /// The quota of one of `wanted` connections out of this one, which is a turn's. A single connection gets
    /// all of it.
    pub(in crate::shard) fn of_connection(&self, wanted: u32) -> Self {
        if self.is_used_up() {
            return MINIMUM;
        }
        let wanted = wanted.max(1);
        let parts = wanted as usize;
        Self {
            frames: (self.frames / wanted).max(CONNECTION.frames),
            bytes: (self.bytes / parts).max(CONNECTION.bytes),
            deflate_work: (self.deflate_work / parts).max(CONNECTION.deflate_work),
        }
    }

    pub(in crate::shard) fn is_used_up(&self) -> bool {
        self.frames == 0 || self.bytes == 0 || self.deflate_work == 0
    }

    /// Frames that may still be read.
    pub(crate) fn frames(&self) -> u32 {
        self.frames
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(crate) fn deflate_work(&self) -> usize {
        self.deflate_work
    }

    /// Charges frames.
    pub(in crate::shard) fn take_frames(&mut self, frames: u32) {
        self.frames = self.frames.saturating_sub(frames);
    }

    /// Charges a message of `bytes` bytes. Returns whether the quota is used up.
    #[inline]
    pub(in crate::shard) fn take_message(&mut self, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.bytes == 0
    }

    /// Charges the work of compression for a message. Returns whether the quota is used up.
    pub(in crate::shard) fn take_deflate(&mut self, work: u64) -> bool {
        let work = usize::try_from(work).unwrap_or(usize::MAX);
        let work = work.saturating_add(MESSAGE_WORK);
        self.deflate_work = self.deflate_work.saturating_sub(work);
        self.deflate_work == 0
    }

    /// Returns whether nothing is left for connections with compression.
    pub(in crate::shard) fn is_deflate_used_up(&self) -> bool {
        self.deflate_work == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_used_up_by_the_first_of_its_limits() {
        for (frames, bytes, work) in [
            (TURN.frames, 0, None),
            (0, TURN.bytes, None),
            (0, 0, Some(TURN.deflate_work as u64)),
        ] {
            let mut turn = TURN;
            assert_eq!(turn.of_connection(1), TURN);
            let given = turn.of_connection(u32::MAX);
            assert_eq!(given, CONNECTION);
            turn.take_frames(1);
            assert!(!turn.is_used_up());
            turn.take_frames(frames);
            turn.take_message(bytes);
            assert_eq!(
                work.is_some_and(|work| turn.take_deflate(work)),
                turn.is_deflate_used_up()
            );
            assert!(turn.is_used_up());
            assert_eq!(turn.of_connection(1), MINIMUM);
        }
    }

    #[test]
    fn the_shards_of_a_core_share_the_quota_of_a_turn() {
        assert_eq!(TURN.divided_by(4).frames, TURN.frames / 4);
        assert_eq!(TURN.divided_by(u16::MAX), MINIMUM);
    }
}
