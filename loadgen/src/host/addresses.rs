//! Addresses of this host.

use std::net::SocketAddr;

/// Returns whether `address` belongs to this host, so that the kernel's socket table shows the server's
/// sockets.
pub(crate) fn is_local(address: SocketAddr) -> bool {
    // A socket can be bound to an address of this host only.
    address.ip().is_loopback() || std::net::UdpSocket::bind((address.ip(), 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_host_are_local() {
        assert!(is_local("127.0.0.9:80".parse().unwrap()));
        // TEST-NET-1 (RFC 5737) belongs to no host.
        assert!(!is_local("192.0.2.1:80".parse().unwrap()));
    }
}
