//! Sending, and shutting down the sending direction.

use super::{
    super::{
        super::{OpCode, SendMode, Token},
        client::{ClientId, Segment},
        socket::PeerState,
    },
    Kernel, Scheduled,
};

impl Kernel {
    /// Sends the bytes that the socket has room for; fewer if the fault `short_send` occurs.
    pub(super) fn send(
        &mut self,
        index: u32,
        bytes: &[u8],
        mode: SendMode,
        finish: bool,
        token: Token,
    ) {
        let short_send = self.simulation.faults.short_send;
        let send_buffer = self.simulation.send_buffer;
        assert!(!bytes.is_empty(), "a send has no bytes");
        let is_short = self.chance(short_send);
        let random = self.random.u64(..);
        let now_ms = self.now_ms;
        let socket = self.socket(index);
        assert!(!socket.is_finished, "a send after FIN on socket {index}");
        if socket.peer == PeerState::Reset {
            return self.post_result(OpCode::Send, token, -libc::EPIPE);
        }
        let mut length = bytes.len().min(send_buffer.saturating_sub(socket.unread));
        if is_short && length > 0 {
            length = usize::try_from(random % length as u64).expect("below a length");
        }
        let client = socket.client;
        socket.unread += length;
        socket.sent_bytes += length as u64;
        if length > 0 {
            socket.sent_ms = now_ms;
            self.send_to_client(client, Segment::Bytes(bytes[..length].to_vec()));
        }
        let taken = i32::try_from(length).expect("a send is below 2 GiB");
        if length < bytes.len() {
            let result = if taken == 0 { -libc::EAGAIN } else { taken };
            return self.post_result(OpCode::Send, token, result);
        }
        if mode == SendMode::Reported {
            self.post_result(OpCode::Send, token, taken);
        }
        if finish {
            self.finish_later(index, token);
        }
    }

    /// Completes an armed `Writable` if a third of the send buffer is free, or the connection was reset.
    pub(super) fn wake_writer(&mut self, index: u32) {
        let send_buffer = self.simulation.send_buffer;
        let socket = self.socket(index);
        let has_room = socket.unread <= send_buffer - send_buffer / 3;
        if has_room || socket.peer == PeerState::Reset {
            self.end_poll(index);
        }
    }

    /// Completes an armed `Writable`.
    pub(super) fn end_poll(&mut self, index: u32) {
        if let Some(token) = self.socket(index).poll.take() {
            self.complete(OpCode::Writable, token, i32::from(libc::POLLOUT));
        }
    }

    /// Schedules a FIN, possibly late, as from a kernel worker: a Close may overtake it.
    pub(super) fn finish_later(&mut self, index: u32, token: Token) {
        let client = self.socket(index).client;
        let at_ms = self.now_ms + self.random_delay_ms();
        let order = self.random_order();
        self.events
            .schedule(at_ms, order, Scheduled::Finish(client, token));
    }

    /// Carries out a scheduled FIN.
    pub(super) fn shutdown_now(&mut self, client: ClientId, token: Token) {
        let result = match self.clients[client.0].socket {
            Some(index) => {
                self.finish(index);
                0
            }
            None => -libc::EBADF,
        };
        self.post_result(OpCode::ShutdownWrite, token, result);
    }

    fn finish(&mut self, index: u32) {
        let socket = self.socket(index);
        if socket.is_finished || socket.peer == PeerState::Reset {
            return;
        }
        socket.is_finished = true;
        let client = socket.client;
        self.send_to_client(client, Segment::Finish);
    }
}
