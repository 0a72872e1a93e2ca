//! The submission queue entries of operations on sockets.

use std::os::fd::RawFd;

use io_uring::{opcode, squeue, types};
use socket2::SockAddr;

use super::BUFFER_GROUP;
use crate::ring::{Data, Outbound, SendMode, Socket};

/// Sends never raise SIGPIPE; a short one counts as failed, so that what is linked to it is not
/// done.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// The value of `TCP_NODELAY`.
static NO_DELAY: libc::c_int = 1;

/// `SOCKET_URING_OP_SIOCOUTQ` (include/uapi/linux/io_uring.h).
const QUERY_UNACKED: u32 = 1;

/// Connecting to no family of addresses dissolves a connection (connect(2)): TCP resets it, and
/// wakes whoever waits for it, at a constant cost. Cancelling by descriptor does as well, but
/// walks every armed operation of the ring; shutting down goes through a thread of the kernel's.
static UNSPECIFIED_ADDRESS: libc::sa_family_t = libc::AF_UNSPEC as libc::sa_family_t;

pub(super) fn fixed(socket: Socket) -> types::Fixed {
    types::Fixed(socket.0)
}

/// Sets a socket's option to a value, which is read when this is submitted.
pub(super) fn set_option<T>(
    socket: Socket,
    level: libc::c_int,
    option: libc::c_int,
    value: *const T,
) -> squeue::Entry {
    let size = size_of::<T>() as u32;
    opcode::SetSockOpt::new(
        fixed(socket),
        level as u32,
        option as u32,
        value.cast(),
        size,
    )
    .build()
}

/// Receives into provided buffers, as much as fits in one, once or any number of times.
pub(super) fn receive(socket: Socket, multishot: bool) -> squeue::Entry {
    if multishot {
        return opcode::RecvMulti::new(fixed(socket), BUFFER_GROUP).build();
    }
    opcode::Recv::new(fixed(socket), std::ptr::null_mut(), 0)
        .buf_group(BUFFER_GROUP)
        .build()
        .flags(squeue::Flags::BUFFER_SELECT)
}

/// Sends as much as the socket has room for, and does not wait.
pub(super) fn send(socket: Socket, outbound: &Outbound, mode: SendMode) -> squeue::Entry {
    let flags = SEND_FLAGS | libc::MSG_DONTWAIT;
    let entry = match outbound.data {
        Data::Bytes(start) => opcode::Send::new(fixed(socket), start, outbound.length)
            .flags(flags)
            .build(),
        Data::Message(header) => opcode::SendMsg::new(fixed(socket), header)
            .flags(flags as u32)
            .build(),
    };
    match mode {
        SendMode::Silent => entry.flags(squeue::Flags::SKIP_SUCCESS),
        SendMode::Told => entry,
    }
}

/// Resets a connection: it dissolves it.
pub(super) fn reset(socket: Socket) -> squeue::Entry {
    let (address, length) = (
        (&raw const UNSPECIFIED_ADDRESS).cast(),
        size_of_val(&UNSPECIFIED_ADDRESS) as u32,
    );
    opcode::Connect::new(fixed(socket), address, length).build()
}

/// Asks how many bytes the peer has not acknowledged.
pub(super) fn query_unacked(socket: Socket) -> squeue::Entry {
    opcode::UringCmd16::new(fixed(socket), QUERY_UNACKED).build()
}

/// Sends all of these bytes, or 4 GiB of them, and waits for room.
pub(super) fn send_all(socket: Socket, bytes: &[u8]) -> squeue::Entry {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    opcode::Send::new(fixed(socket), bytes.as_ptr(), length)
        .flags(SEND_FLAGS)
        .build()
}

/// MSG_RING and CLOSE as a chain, of which one completes: the first if it fails, for which the
/// kernel says nothing of the other (io_uring_enter(2), `IOSQE_CQE_SKIP_SUCCESS`).
pub(super) fn hand_over(
    socket: Socket,
    ring: RawFd,
    arrival: u64,
    user_data: u64,
) -> [squeue::Entry; 2] {
    let anywhere = types::DestinationSlot::auto_target();
    let give = opcode::MsgRingSendFd::new(types::Fd(ring), fixed(socket), anywhere, arrival);
    let quiet = squeue::Flags::SKIP_SUCCESS | squeue::Flags::IO_LINK;
    let give = give.build().user_data(user_data).flags(quiet);
    let close = opcode::Close::new(fixed(socket)).build();
    [give, close.user_data(user_data)]
}

/// Entries that make a connection.
pub(super) const CONNECT_ENTRIES: usize = 3;

/// SOCKET, the socket option, and CONNECT as a chain. The address is read when they are submitted.
pub(super) fn connect(
    socket: Socket,
    address: &SockAddr,
    user_data: u64,
) -> [squeue::Entry; CONNECT_ENTRIES] {
    let slot = types::DestinationSlot::try_from_slot_target(socket.0)
        .expect("a direct descriptor is below 2^32 - 2");
    let quiet = squeue::Flags::SKIP_SUCCESS | squeue::Flags::IO_LINK;
    let open = opcode::Socket::new(address.family().into(), libc::SOCK_STREAM, 0)
        .file_index(Some(slot))
        .build();
    let open = open.user_data(user_data).flags(quiet);
    let no_delay = set_option(
        socket,
        libc::IPPROTO_TCP,
        libc::TCP_NODELAY,
        &raw const NO_DELAY,
    );
    let no_delay = no_delay.user_data(user_data).flags(quiet);
    let connect = opcode::Connect::new(fixed(socket), address.as_ptr().cast(), address.len());
    [open, no_delay, connect.build().user_data(user_data)]
}
