//! The submission queue entries of operations on sockets.

use std::os::fd::RawFd;

use io_uring::{opcode, squeue, types};
use socket2::SockAddr;

use super::BUFFER_GROUP;
use crate::ring::{Outbound, SendMode, Socket, outbound::Data};

/// No SIGPIPE; and a short send counts as failed, which cancels the entry linked to it.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// The value of `TCP_NODELAY`.
static NO_DELAY: libc::c_int = 1;

/// `SOCKET_URING_OP_SIOCOUTQ` (include/uapi/linux/io_uring.h).
const QUERY_UNACKED: u32 = 1;

/// Connecting to an address of family `AF_UNSPEC` dissolves a connection (connect(2)): TCP resets it and
/// completes its operations, in constant time. Cancelling by descriptor walks every armed operation of
/// the ring; shutting down runs on a kernel worker.
static UNSPECIFIED_ADDRESS: libc::sa_family_t = libc::AF_UNSPEC as libc::sa_family_t;

/// Names a direct descriptor in an entry.
pub(super) fn fixed(socket: Socket) -> types::Fixed {
    types::Fixed(socket.0)
}

/// Sets a socket option. The kernel reads `value` on submission.
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

/// Receives into provided buffers, up to one buffer at a time.
pub(super) fn receive(socket: Socket, multishot: bool) -> squeue::Entry {
    if multishot {
        return opcode::RecvMulti::new(fixed(socket), BUFFER_GROUP).build();
    }
    opcode::Recv::new(fixed(socket), std::ptr::null_mut(), 0)
        .buf_group(BUFFER_GROUP)
        .build()
        .flags(squeue::Flags::BUFFER_SELECT)
}

/// Sends the bytes that the socket has room for, and does not wait.
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
        SendMode::Reported => entry,
    }
}

/// Resets a connection.
pub(super) fn reset(socket: Socket) -> squeue::Entry {
    let (address, length) = (
        (&raw const UNSPECIFIED_ADDRESS).cast(),
        size_of_val(&UNSPECIFIED_ADDRESS) as u32,
    );
    opcode::Connect::new(fixed(socket), address, length).build()
}

/// Queries the number of bytes that the peer has not acknowledged.
pub(super) fn query_unacked(socket: Socket) -> squeue::Entry {
    opcode::UringCmd16::new(fixed(socket), QUERY_UNACKED).build()
}

/// Sends all of these bytes, 4 GiB at most, and waits for room.
pub(super) fn send_all(socket: Socket, bytes: &[u8]) -> squeue::Entry {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    opcode::Send::new(fixed(socket), bytes.as_ptr(), length)
        .flags(SEND_FLAGS)
        .build()
}

/// Links MSG_RING and CLOSE. One of them completes: MSG_RING if it fails, which cancels CLOSE without a
/// completion (io_uring_enter(2), `IOSQE_CQE_SKIP_SUCCESS`), otherwise CLOSE.
pub(super) fn hand_over(
    socket: Socket,
    ring: RawFd,
    arrival: u64,
    user_data: u64,
) -> [squeue::Entry; 2] {
    let anywhere = types::DestinationSlot::auto_target();
    let send = opcode::MsgRingSendFd::new(types::Fd(ring), fixed(socket), anywhere, arrival);
    let silent = squeue::Flags::SKIP_SUCCESS | squeue::Flags::IO_LINK;
    let send = send.build().user_data(user_data).flags(silent);
    let close = opcode::Close::new(fixed(socket)).build();
    [send, close.user_data(user_data)]
}

/// The number of entries of [`connect`].
pub(super) const CONNECT_ENTRIES: usize = 3;

/// Links SOCKET, the socket option and CONNECT. The kernel reads the address on submission.
pub(super) fn connect(
    socket: Socket,
    address: &SockAddr,
    user_data: u64,
) -> [squeue::Entry; CONNECT_ENTRIES] {
    let slot = types::DestinationSlot::try_from_slot_target(socket.0)
        .expect("a direct descriptor is below 2^32 - 2");
    let silent = squeue::Flags::SKIP_SUCCESS | squeue::Flags::IO_LINK;
    let open = opcode::Socket::new(address.family().into(), libc::SOCK_STREAM, 0)
        .file_index(Some(slot))
        .build();
    let open = open.user_data(user_data).flags(silent);
    let no_delay = set_option(
        socket,
        libc::IPPROTO_TCP,
        libc::TCP_NODELAY,
        &raw const NO_DELAY,
    );
    let no_delay = no_delay.user_data(user_data).flags(silent);
    let connect = opcode::Connect::new(fixed(socket), address.as_ptr().cast(), address.len());
    [open, no_delay, connect.build().user_data(user_data)]
}
