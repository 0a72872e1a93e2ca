//! Send queues: frames that a connection still has to send, and received bytes that it has not read yet.

mod limits;
mod pool;
mod queue;
mod segment;
#[allow(unsafe_code)]
mod send_vector;
mod stall;
mod unread_bytes;

#[cfg(test)]
pub(crate) use self::pool::POOLED_MEMORY_MAX;
pub(crate) use self::{
    limits::{LONG_QUEUE_SHARE, SendLimits},
    pool::QueuePool,
    queue::Queue,
    segment::Lane,
    stall::{FAST_TIME, PROGRESS_TIME},
};
