//! Sockets of TCP over IPv4, counted by the kernel (sock_diag(7)), in the network namespace of the
//! calling thread.

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::socket_table::State;

/// A netlink message of an answer is at most so long (NLMSG_GOODSIZE, and room to spare).
const DATAGRAM_SIZE_MAX: usize = 64 * 1024;

/// Types and flags of messages (linux/netlink.h, linux/sock_diag.h).
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
const HEADER_SIZE: usize = 16;
const REQUEST_SIZE: usize = HEADER_SIZE + 56;

/// How many sockets whose own port is `port` are in one of `states`.
pub(crate) fn count(port: u16, states: &[State]) -> usize {
    let protocol = Some(netlink::SOCK_DIAG);
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol)
        .expect("the kernel has sock_diag");
    send(&socket, &request(port, states), SendFlags::empty()).expect("the kernel listens");
    let mut datagram = vec![0; DATAGRAM_SIZE_MAX];
    let mut count = 0;
    loop {
        let (_, length) =
            recv(&socket, &mut datagram[..], RecvFlags::empty()).expect("the kernel answers");
        let mut rest = &datagram[..length];
        while let Some((header, _)) = rest.split_first_chunk::<HEADER_SIZE>() {
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
            match u16::from_ne_bytes([header[4], header[5]]) {
                SOCK_DIAG_BY_FAMILY => count += 1,
                NLMSG_DONE => return count,
                other => panic!("a message of type {other} is no answer"),
            }
            // Messages are aligned to four bytes (netlink(7)).
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// Asks for a dump of the sockets of `port` in `states`.
fn request(port: u16, states: &[State]) -> Vec<u8> {
    let states = states.iter().fold(0, |set, &state| set | 1 << state as u32);
    let mut bytes = Vec::with_capacity(REQUEST_SIZE);
    bytes.extend((REQUEST_SIZE as u32).to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    // Sequence number and port of the sender: one request, one socket.
    bytes.extend([0; 8]);
    bytes.extend([libc::AF_INET as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    bytes.extend(u32::to_ne_bytes(states));
    bytes.extend(port.to_be_bytes());
    // All peers, addresses, interfaces.
    bytes.resize(REQUEST_SIZE, 0);
    bytes
}
