//! Applies the policy for slow consumers to a send queue.

use tidewheel_codec::{Cause, CloseCode};

use super::{Link, Sent};
use crate::{Handler, SlowConsumer, outbox::Lane};

impl<H: Handler> Link<'_, H> {
    /// Makes space for a message, as `policy` permits. Returns the result of the message if there is none.
    /// Messages with the same `key` replace each other.
    pub(super) fn make_space(&mut self, policy: SlowConsumer, key: u64) -> Result<(), Sent> {
        let missed = self.queue.missed;
        let result = self.apply(policy, key);
        let dropped = self.queue.missed - missed;
        if dropped > 0 {
            self.fanout.stats.dropped(policy, dropped);
        }
        result
    }

    fn apply(&mut self, policy: SlowConsumer, key: u64) -> Result<(), Sent> {
        if policy == SlowConsumer::Conflate && self.queue.is_stalled() {
            self.queue.drop_singles(key);
        }
        while self.queue.held() >= self.limits.bytes_max {
            match policy {
                SlowConsumer::DropOldest | SlowConsumer::Conflate if self.queue.drop_oldest() => {}
                SlowConsumer::DropNewest | SlowConsumer::DropOldest | SlowConsumer::Conflate => {
                    self.queue.missed += 1;
                    return Err(Sent::Dropped);
                }
                SlowConsumer::Close => return Err(self.fail(CloseCode::POLICY_VIOLATION)),
                SlowConsumer::CloseTryAgain => return Err(self.fail(CloseCode::TRY_AGAIN_LATER)),
            }
        }
        Ok(())
    }

    /// Fails the connection of a slow consumer, and drops the messages in its queue.
    fn fail(&mut self, code: CloseCode) -> Sent {
        let mut close = Vec::new();
        let cause = Cause::SlowConsumer;
        self.protocol
            .fail(self.endpoint, code, cause, &mut close, self.now);
        self.queue.discard();
        self.queue.write_control(&close);
        Sent::Closed
    }

    /// The lane of a message. A message whose compression depends on earlier messages is never dropped.
    pub(super) fn lane(&self, policy: SlowConsumer, key: u64) -> Lane {
        match policy {
            SlowConsumer::DropOldest | SlowConsumer::Conflate if !self.protocol.keeps_context() => {
                if self.queue.is_stalled() {
                    Lane::Single(key)
                } else {
                    Lane::Batch
                }
            }
            _ => Lane::Kept,
        }
    }
}
