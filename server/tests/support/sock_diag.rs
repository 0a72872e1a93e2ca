//! Counts of TCP sockets over IPv4 in the calling thread's network namespace, by sock_diag(7).

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::socket_table::State;

/// Size of the receive buffer in bytes; a netlink datagram is shorter (`NLMSG_GOODSIZE`).
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

/// Message types and flags (linux/netlink.h, linux/sock_diag.h).
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;

/// Size of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// Size of a header and of `struct inet_diag_req_v2`.
const REQUEST_BYTES: usize = HEADER_BYTES + 56;

/// Returns the number of sockets with local port `port` in one of `states`.
pub(crate) fn count(port: u16, states: &[State]) -> usize {
    let protocol = Some(netlink::SOCK_DIAG);
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol)
        .expect("the kernel has sock_diag");
    send(&socket, &request(port, states), SendFlags::empty()).expect("the kernel takes a request");
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    let mut count = 0;
    loop {
        let (_, length) =
            recv(&socket, &mut datagram[..], RecvFlags::empty()).expect("the kernel answers");
        let mut rest = &datagram[..length];
        while let Some((header, _)) = rest.split_first_chunk::<HEADER_BYTES>() {
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
            match u16::from_ne_bytes([header[4], header[5]]) {
                SOCK_DIAG_BY_FAMILY => count += 1,
                NLMSG_DONE => return count,
                other => panic!("unexpected netlink message of type {other}"),
            }
            // Messages are aligned to four bytes (netlink(7)).
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// Encodes a request for a dump of the sockets with local port `port` in `states`.
fn request(port: u16, states: &[State]) -> Vec<u8> {
    let states = states.iter().fold(0, |set, &state| set | 1 << state as u32);
    let mut bytes = Vec::with_capacity(REQUEST_BYTES);
    bytes.extend((REQUEST_BYTES as u32).to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    // Sequence number and port of the sender: zero, because the socket has one request only.
    bytes.extend([0; 8]);
    bytes.extend([libc::AF_INET as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    bytes.extend(u32::to_ne_bytes(states));
    bytes.extend(port.to_be_bytes());
    // All peers, addresses and interfaces.
    bytes.resize(REQUEST_BYTES, 0);
    bytes
}
