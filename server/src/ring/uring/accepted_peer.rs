//! The peer's address of an accepted connection.

use std::net::{IpAddr, SocketAddr};

/// A socket address that the kernel writes (accept(2)).
#[derive(Clone, Copy)]
pub(super) struct AcceptedPeer {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

impl AcceptedPeer {
    /// An address of family `AF_UNSPEC`.
    pub(super) fn empty() -> Self {
        Self {
            // SAFETY: a structure of integers is valid when all zero.
            storage: unsafe { std::mem::zeroed() },
            length: 0,
        }
    }

    /// Clears the address, and returns the pointers for the kernel to write to.
    pub(super) fn as_mut_pointers(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        *self = Self::empty();
        self.length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        ((&raw mut self.storage).cast(), &raw mut self.length)
    }

    /// The address; `None` for other families than IPv4 and IPv6. An IPv4-mapped IPv6 address is returned as IPv4
    /// (RFC 4291 2.5.5.2).
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match i32::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the family says that the kernel wrote this structure, which fits into the storage.
                let address = unsafe { *(&raw const self.storage).cast::<libc::sockaddr_in>() };
                let ip = IpAddr::from(address.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddr::new(ip, u16::from_be(address.sin_port)))
            }
            libc::AF_INET6 => {
                // SAFETY: the family says that the kernel wrote this structure, which fits into the storage.
                let address = unsafe { *(&raw const self.storage).cast::<libc::sockaddr_in6>() };
                let ip = IpAddr::from(address.sin6_addr.s6_addr).to_canonical();
                Some(SocketAddr::new(ip, u16::from_be(address.sin6_port)))
            }
            _ => None,
        }
    }
}
