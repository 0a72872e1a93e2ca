//! Who was accepted.

use std::net::IpAddr;

/// An address for the kernel to write (accept(2)).
#[derive(Clone, Copy)]
pub(super) struct PeerAddress {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

impl PeerAddress {
    pub(super) fn empty() -> Self {
        Self {
            // SAFETY: a structure of numbers is valid when all zero; its family is none then.
            storage: unsafe { std::mem::zeroed() },
            length: 0,
        }
    }

    /// Forgets what was written.
    pub(super) fn as_mut_pointers(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        *self = Self::empty();
        self.length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        ((&raw mut self.storage).cast(), &raw mut self.length)
    }

    pub(super) fn ip(&self) -> Option<IpAddr> {
        match i32::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the family says that this is what was written, and it is smaller.
                let address = unsafe { *(&raw const self.storage).cast::<libc::sockaddr_in>() };
                Some(IpAddr::from(address.sin_addr.s_addr.to_ne_bytes()))
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let address = unsafe { *(&raw const self.storage).cast::<libc::sockaddr_in6>() };
                Some(IpAddr::from(address.sin6_addr.s6_addr))
            }
            _ => None,
        }
    }
}
