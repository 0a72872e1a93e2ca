//! The addresses of connects in the submission queue.

use std::net::SocketAddr;

use socket2::SockAddr;

/// The addresses of connects in the submission queue. The kernel copies them on submission.
///
/// The queued entries point to the addresses, so an address does not move before [`clear`](Self::clear).
#[derive(Debug, Default)]
pub(super) struct ConnectAddresses(Vec<SockAddr>);

impl ConnectAddresses {
    /// Whether [`push`](Self::push) needs a [`reserve`](Self::reserve) first.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() == self.0.capacity()
    }

    /// Makes room for `count` addresses.
    ///
    /// # Panics
    /// If there are addresses, because they might move.
    pub(super) fn reserve(&mut self, count: usize) {
        assert!(self.0.is_empty(), "queued entries point to the addresses");
        self.0.reserve_exact(count);
    }

    /// Adds an address.
    ///
    /// # Panics
    /// If there is no room, because the other addresses would move.
    pub(super) fn push(&mut self, peer: SocketAddr) -> &SockAddr {
        assert!(!self.is_full(), "queued entries point to the addresses");
        self.0.push(SockAddr::from(peer));
        self.0.last().expect("an address was pushed")
    }

    /// Drops all addresses, after their entries were submitted.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
