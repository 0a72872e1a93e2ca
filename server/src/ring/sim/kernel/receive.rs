//! Receiving.

use super::{
    super::{
        super::{Completion, Socket},
        socket::{PeerState, Receiving, Target},
    },
    Kernel,
};

impl Kernel {
    pub(super) fn arm_receive(&mut self, socket: Socket, receive: Receiving) {
        let state = self.socket(socket.0);
        assert!(state.receive.is_none(), "a second receive on {socket:?}");
        state.received_by = Some(receive.token);
        state.receive = Some(receive);
    }

    /// Completes the receive of a socket, as often as bytes or the end of the connection allow.
    pub(super) fn complete_receives(&mut self, index: u32) {
        while let socket = self.socket(index)
            && let Some(receive) = socket.receive.take()
        {
            let result = match socket.peer {
                PeerState::Reset => -libc::ECONNRESET,
                PeerState::Finished if socket.inbound.is_empty() => 0,
                PeerState::Open if socket.inbound.is_empty() => {
                    socket.receive = Some(receive);
                    return;
                }
                PeerState::Open | PeerState::Finished => {
                    self.receive(index, receive);
                    continue;
                }
            };
            self.complete_without_bytes(index, receive, result);
        }
    }

    /// Completes a receive with bytes that have arrived, and arms it again if it continues.
    fn receive(&mut self, index: u32, receive: Receiving) {
        let op = receive.op();
        let Receiving { token, target } = receive;
        let (length, more, buffer) = match target {
            Target::Own { mut buffer, limit } => {
                let bytes = self.take_inbound(index, limit);
                let start = buffer.as_ptr();
                buffer.extend_from_slice(&bytes);
                assert_eq!(buffer.as_ptr(), start, "the buffer has room for {limit}");
                self.filled.insert(token, buffer);
                (bytes.len(), false, None)
            }
            Target::Provided { multishot } => {
                let faults = self.simulation.faults;
                if self.provided.is_empty() || self.chance(faults.no_buffers) {
                    let receive = Receiving { token, target };
                    return self.complete_without_bytes(index, receive, -libc::ENOBUFS);
                }
                let id = self.provided.pop_front().expect("a buffer is free");
                let bytes = self.take_inbound(index, self.memory.size() as usize);
                let length = u32::try_from(bytes.len()).expect("at most the buffer's size");
                let mut buffer = self.memory.take(id, length);
                buffer.copy_from_slice(&bytes);
                let more = multishot && !self.chance(faults.multishot_end);
                if more {
                    self.socket(index).receive = Some(Receiving { token, target });
                }
                (bytes.len(), more, Some(buffer))
            }
        };
        let completion = Completion {
            op,
            token,
            result: i32::try_from(length).expect("a receive is below 2 GiB"),
            more,
            buffer,
        };
        self.complete_receive(index, completion);
    }

    /// Takes up to `limit` bytes that a socket has received; fewer if the fault `small_pieces` occurs.
    fn take_inbound(&mut self, index: u32, limit: usize) -> Vec<u8> {
        let small_pieces = self.simulation.faults.small_pieces;
        let mut length = self.socket(index).inbound.len().min(limit);
        if self.chance(small_pieces) {
            length = self.random.usize(1..=length);
        }
        let inbound = &mut self.socket(index).inbound;
        let (first, second) = inbound.as_slices();
        let of_first = first.len().min(length);
        let bytes = [&first[..of_first], &second[..length - of_first]].concat();
        inbound.drain(..length);
        bytes
    }

    /// Ends the armed receive of a socket, if there is one.
    pub(super) fn end_receive(&mut self, index: u32, result: i32) {
        if let Some(receive) = self.socket(index).receive.take() {
            self.complete_without_bytes(index, receive, result);
        }
    }

    fn complete_without_bytes(&mut self, index: u32, receive: Receiving, result: i32) {
        let completion = Completion::last(receive.op(), receive.token, result);
        match receive.target {
            Target::Own { buffer, .. } => {
                self.filled.insert(receive.token, buffer);
            }
            Target::Provided { .. } => {}
        }
        self.complete_receive(index, completion);
    }
}
