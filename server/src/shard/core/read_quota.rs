//! How much of what was received is read before others have their turn.
//!
//! A turn has a share of work. Each completed receive, and each connection that waits with unread bytes,
//! gets a part of it. When the turn's share is used up, bytes that have just arrived get a small part
//! nevertheless, and connections that wait go on waiting. So a flood delays a bystander by no more than
//! the work of one turn's share.

/// Work on received bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ReadQuota {
    /// Frames, control frames and fragments included.
    frames: u32,
    /// Payload bytes of messages.
    bytes: usize,
    /// Work of compression ([`Endpoint::deflate_work`](tidewheel_codec::Endpoint::deflate_work)), and
    /// [`MESSAGE_WORK`] for each message of a connection that compresses.
    deflate_work: usize,
}

/// The work of compression for a message, beside that for its bytes.
const MESSAGE_WORK: usize = 4 << 10;

/// What one turn of the shards on a core reads: some 1 to 3 ms of work.
pub(crate) const TURN: ReadQuota = ReadQuota {
    frames: 16 << 10,
    bytes: 4 << 20,
    deflate_work: 512 << 10,
};

/// What is read of one connection, at least, before it is another's turn.
pub(crate) const CONNECTION: ReadQuota = ReadQuota {
    frames: 1 << 10,
    bytes: 1 << 20,
    deflate_work: 64 << 10,
};

/// The same when the turn's share is used up. A message that was begun is read to its end.
pub(in crate::shard) const SMALL: ReadQuota = ReadQuota {
    frames: 64,
    bytes: 16 << 10,
    deflate_work: 4 << 10,
};

impl ReadQuota {
    /// One of `shards` equal parts.
    pub(in crate::shard) fn divided_by(self, shards: u16) -> Self {
        let shards = usize::from(shards.max(1));
        Self {
            frames: (self.frames / shards as u32).max(SMALL.frames),
            bytes: (self.bytes / shards).max(SMALL.bytes),
            deflate_work: (self.deflate_work / shards).max(SMALL.deflate_work),
        }
    }

    /// The share of a connection out of this one, which is a turn's, where so many want one: a
    /// connection that is alone is not interrupted.
    pub(in crate::shard) fn of_connection(&self, wanted: u32) -> Self {
        if self.is_used_up() {
            return SMALL;
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

    /// Frames were read.
    pub(in crate::shard) fn take_frames(&mut self, frames: u32) {
        self.frames = self.frames.saturating_sub(frames);
    }

    /// Takes a message of this many bytes; returns whether the share is used up.
    #[inline]
    pub(in crate::shard) fn take_message(&mut self, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.bytes == 0
    }

    /// Takes this much work of compression for a message; returns whether the share is used up.
    pub(in crate::shard) fn take_deflate(&mut self, work: u64) -> bool {
        let work = usize::try_from(work).unwrap_or(usize::MAX);
        let work = work.saturating_add(MESSAGE_WORK);
        self.deflate_work = self.deflate_work.saturating_sub(work);
        self.deflate_work == 0
    }

    /// Whether there is nothing left for connections that compress.
    pub(in crate::shard) fn is_deflate_used_up(&self) -> bool {
        self.deflate_work == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_used_up_by_whichever_comes_first() {
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
            assert_eq!(turn.of_connection(1), SMALL);
        }
    }

    #[test]
    fn shards_of_a_core_share_a_turn() {
        assert_eq!(TURN.divided_by(4).frames, TURN.frames / 4);
        assert_eq!(TURN.divided_by(u16::MAX), SMALL);
    }
}
