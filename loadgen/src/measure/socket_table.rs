//! The TCP sockets of the kernel, listed by sock_diag(7).

use std::io;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::{
    AF_INET, AF_INET6, IPPROTO_TCP, SockDiagMessage,
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};

/// Upper bound in bytes of a netlink message (NLMSG_GOODSIZE plus a page).
const DATAGRAM_SIZE_MAX: usize = 64 * 1024;

/// A netlink socket for sock_diag requests.
#[derive(Debug)]
pub(crate) struct SocketTable {
    socket: Socket,
    datagram: Vec<u8>,
}

/// Numbers of server-side sockets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct SocketCount {
    /// Sockets in all states except LISTEN and TIME_WAIT.
    pub(crate) held: u32,
    /// Sockets in FIN_WAIT1, CLOSING and LAST_ACK: the kernel waits for the peer, and keeps them
    /// for up to two minutes after a close.
    pub(crate) orphans: u32,
}

impl SocketTable {
    /// Opens a netlink socket.
    ///
    /// # Errors
    /// Those of socket(2); most often sock_diag is not available.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            datagram: Vec::with_capacity(DATAGRAM_SIZE_MAX),
        })
    }

    /// Counts the sockets whose local port is `port`, on all local addresses.
    ///
    /// # Errors
    /// Those of the kernel, and `InvalidData` for a malformed answer.
    pub(crate) fn count(&mut self, port: u16) -> io::Result<SocketCount> {
        let mut count = SocketCount::default();
        for family in [AF_INET, AF_INET6] {
            self.send_request(family, port)?;
            while !self.receive_answer(port, &mut count)? {}
        }
        Ok(count)
    }

    /// Requests a dump of all sockets of `port` that a server holds.
    fn send_request(&mut self, family: u8, port: u16) -> io::Result<()> {
        let mut socket_id = match family {
            AF_INET => SocketId::new_v4(),
            _ => SocketId::new_v6(),
        };
        socket_id.source_port = port;
        let request = SockDiagMessage::InetRequest(InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::all() - StateFlags::LISTEN - StateFlags::TIME_WAIT,
            socket_id,
        });
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        Ok(())
    }

    /// Reads one datagram of the answer. Returns whether it was the last.
    fn receive_answer(&mut self, port: u16, count: &mut SocketCount) -> io::Result<bool> {
        self.datagram.clear();
        self.socket.recv(&mut self.datagram, 0)?;
        let mut rest = &self.datagram[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(invalid)?;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    if response.header.socket_id.source_port == port {
                        count.add(response.header.state);
                    }
                }
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {
                    return Err(invalid(
                        "unexpected message in an answer of sock_diag".to_owned(),
                    ));
                }
            }
            // Messages are aligned to four bytes (netlink(7)).
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(false)
    }
}

impl SocketCount {
    fn add(&mut self, state: u8) {
        let state = StateFlags::from_bits_truncate(1 << state);
        let orphan = StateFlags::FIN_WAIT1 | StateFlags::CLOSING | StateFlags::LAST_ACK;
        self.held += 1;
        if orphan.contains(state) {
            self.orphans += 1;
        }
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn only_the_accepted_end_of_an_open_connection_is_counted() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let address = listener.local_addr().unwrap();
            let mut table = SocketTable::open().unwrap();
            assert_eq!(table.count(address.port()).unwrap().held, 0);
            let clients: Vec<_> = (0..300)
                .map(|_| {
                    let client = TcpStream::connect(address).unwrap();
                    (client, listener.accept().unwrap())
                })
                .collect();
            let count = table.count(address.port()).unwrap();
            assert_eq!((count.held, count.orphans), (300, 0));
            drop(clients);
        }
    }

    #[test]
    fn a_socket_that_waits_for_an_acknowledgement_of_its_fin_is_an_orphan() {
        let mut count = SocketCount::default();
        for state in [1, 2, 4, 5, 8, 9, 11] {
            count.add(state);
        }
        // FIN_WAIT1 is 4, LAST_ACK 9, CLOSING 11 (tcp_states.h).
        assert_eq!((count.held, count.orphans), (7, 3));
    }
}
