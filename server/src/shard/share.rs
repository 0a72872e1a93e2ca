//! How much of what was received is read before others have their turn.
//!
//! A completion, and a connection that waits for its turn, gets a share. All shares of a turn come out
//! of the turn's own; when that is used up, what has just arrived gets a small share, and what waits
//! goes on waiting. So the worst that a flood does to a bystander is to make turns as long as one
//! turn's share.

/// Work on received bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Share {
    /// Frames, control frames and fragments included.
    frames: u32,
    /// Payload bytes of messages.
    bytes: usize,
    /// Payload bytes of messages that were decompressed, and [`INFLATION_BYTES`] for each.
    inflated_bytes: usize,
}

/// What it costs to decompress a message, and to compress its answer, beside its bytes: as much as to
/// decompress so many.
const INFLATION_BYTES: usize = 4 << 10;

/// What one turn of the shards on a core reads: some 1 to 3 ms of work.
pub(crate) const TURN: Share = Share {
    frames: 16 << 10,
    bytes: 4 << 20,
    inflated_bytes: 512 << 10,
};

/// What is read of one connection, at least, before it is another's turn.
pub(crate) const CONNECTION: Share = Share {
    frames: 1 << 10,
    bytes: 1 << 20,
    inflated_bytes: 64 << 10,
};

/// The same when the turn's share is used up. A message that was begun is read to its end.
pub(super) const SMALL: Share = Share {
    frames: 64,
    bytes: 16 << 10,
    inflated_bytes: 4 << 10,
};

impl Share {
    /// One of `shards` equal parts.
    pub(super) fn part(self, shards: u16) -> Self {
        let shards = usize::from(shards.max(1));
        Self {
            frames: (self.frames / shards as u32).max(SMALL.frames),
            bytes: (self.bytes / shards).max(SMALL.bytes),
            inflated_bytes: (self.inflated_bytes / shards).max(SMALL.inflated_bytes),
        }
    }

    /// The share of a connection out of this one, which is a turn's, where so many want one: a
    /// connection that is alone is not interrupted.
    pub(super) fn of_connection(&self, wanted: u32) -> Self {
        if self.is_used_up() {
            return SMALL;
        }
        let wanted = wanted.max(1);
        let parts = wanted as usize;
        Self {
            frames: (self.frames / wanted).max(CONNECTION.frames),
            bytes: (self.bytes / parts).max(CONNECTION.bytes),
            inflated_bytes: (self.inflated_bytes / parts).max(CONNECTION.inflated_bytes),
        }
    }

    pub(super) fn is_used_up(&self) -> bool {
        self.frames == 0 || self.bytes == 0 || self.inflated_bytes == 0
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
    pub(crate) fn inflated_bytes(&self) -> usize {
        self.inflated_bytes
    }

    /// Frames were read.
    pub(super) fn take_frames(&mut self, frames: u32) {
        self.frames = self.frames.saturating_sub(frames);
    }

    /// A message of so many bytes was read; says whether that was the last.
    #[inline]
    pub(super) fn take_message(&mut self, bytes: usize, is_inflated: bool) -> bool {
        self.bytes = self.bytes.saturating_sub(bytes);
        if is_inflated {
            let bytes = bytes + INFLATION_BYTES;
            self.inflated_bytes = self.inflated_bytes.saturating_sub(bytes);
        }
        self.bytes == 0 || self.inflated_bytes == 0
    }

    /// What was `given` to a connection was used but for what is `left`.
    pub(super) fn take_used(&mut self, given: Self, left: Self) {
        self.frames = self.frames.saturating_sub(given.frames - left.frames);
        self.bytes = self.bytes.saturating_sub(given.bytes - left.bytes);
        let inflated = given.inflated_bytes - left.inflated_bytes;
        self.inflated_bytes = self.inflated_bytes.saturating_sub(inflated);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_used_up_by_whichever_comes_first() {
        for (frames, messages, is_inflated) in [
            (TURN.frames, 0, false),
            (0, TURN.bytes, false),
            (0, TURN.inflated_bytes, true),
        ] {
            let mut turn = TURN;
            assert_eq!(turn.of_connection(1), TURN);
            let given = turn.of_connection(u32::MAX);
            assert_eq!(given, CONNECTION);
            let mut left = given;
            left.take_frames(1);
            turn.take_used(given, left);
            assert!(!turn.is_used_up());
            turn.take_frames(frames);
            turn.take_message(messages, is_inflated);
            assert!(turn.is_used_up());
            assert_eq!(turn.of_connection(1), SMALL);
        }
    }

    #[test]
    fn shards_of_a_core_share_a_turn() {
        assert_eq!(TURN.part(4).frames, TURN.frames / 4);
        assert_eq!(TURN.part(u16::MAX), SMALL);
    }
}
