//! The receiving half of a connection: bytes to events.

use bytes::BytesMut;

use super::input::Input;
use super::{Connection, State, send};
use crate::deflate::Compressed;
use crate::endpoint::Endpoint;
use crate::frame::Opcode;
use crate::message::{Event, Message};
use crate::receiver::{Item, Receiver, Rules, poll_common};
use crate::time::Time;
use crate::violation::Violation;

impl Connection {
    /// Accepts received bytes. Pass the result to [`poll_event`](Self::poll_event).
    ///
    /// Any byte restarts the ping interval.
    #[inline]
    pub fn receive<'b>(&mut self, bytes: &'b mut [u8], now: Time) -> Input<'b> {
        if !bytes.is_empty() {
            self.heard = now;
        }
        Input::new(bytes, now)
    }

    /// Returns the next event of `input`. Call it until it returns `None`: then all bytes are read, or
    /// [as many frames](Input::with_frames_max) as allowed.
    ///
    /// Appends the answers to Ping and Close frames to `out`, as encoded frames in order. Messages that
    /// arrive after [`start_closing_handshake`](Self::start_closing_handshake) are dropped.
    #[inline]
    pub fn poll_event<'b>(
        &mut self,
        endpoint: &mut Endpoint,
        input: &mut Input<'b>,
        out: &mut Vec<u8>,
    ) -> Option<Event<'b>> {
        if let State::Open { receiver, .. } = &mut self.state
            && receiver.is_idle()
            && input.frames_left() > 0
        {
            match poll_common(&endpoint.config, input.bytes_mut()) {
                Ok(Some(message)) => {
                    input.count_frame();
                    return Some(self.receive_message(endpoint, message, input.now()));
                }
                Ok(None) => {}
                Err(violation) => self.fail_with(endpoint, violation, out, input.now()),
            }
        }
        self.poll_any_event(endpoint, input, out)
    }

    /// Does the work of [`poll_event`](Self::poll_event) for any bytes in any state.
    #[inline(never)]
    fn poll_any_event<'b>(
        &mut self,
        endpoint: &mut Endpoint,
        input: &mut Input<'b>,
        out: &mut Vec<u8>,
    ) -> Option<Event<'b>> {
        loop {
            if input.frames_left() == 0 {
                return None;
            }
            let (receiver, deflate) = match &mut self.state {
                State::Open {
                    receiver, deflate, ..
                } => (receiver, deflate.is_some()),
                State::Closing { closing, .. } => (&mut closing.receiver, closing.deflate),
                State::Lingering { .. }
                | State::AwaitingEof { .. }
                | State::Expired { .. }
                | State::Released { .. } => return None,
            };
            let rules = Rules {
                config: &endpoint.config,
                deflate,
            };
            let (bytes, frames) = input.parts_mut();
            let item = match receiver.poll(rules, &mut endpoint.pool, bytes, frames) {
                Ok(Some(Item::Compressed(compressed))) => self.decompress(endpoint, compressed),
                other => other,
            };
            match item {
                Ok(None) => return None,
                Ok(Some(Item::Message(message))) => {
                    return Some(self.receive_message(endpoint, message, input.now()));
                }
                Ok(Some(Item::Ping(payload))) => {
                    // RFC 6455 5.5.2: "an endpoint MUST send a Pong frame in response". After our
                    // Close, no frame is sent (1.4).
                    if self.is_open() {
                        send::frame(endpoint, Opcode::Pong, &payload, out);
                        return Some(Event::Ping(payload));
                    }
                }
                Ok(Some(Item::Pong(payload))) => return Some(Event::Pong(payload)),
                Ok(Some(Item::Close(close))) => {
                    self.receive_close(endpoint, close, out, input.now());
                }
                Ok(Some(Item::Compressed(_))) => unreachable!("the message was decompressed above"),
                Err(violation) => self.fail_with(endpoint, violation, out, input.now()),
            }
        }
    }

    #[inline]
    fn receive_message<'b>(
        &mut self,
        endpoint: &mut Endpoint,
        message: Message<'b>,
        now: Time,
    ) -> Event<'b> {
        self.last_message = now;
        for traffic in [&mut self.traffic, &mut endpoint.traffic] {
            traffic.received_messages += 1;
            traffic.received_bytes += message.len() as u64;
        }
        Event::Message(message)
    }

    /// Decompresses and validates a message.
    #[cold]
    fn decompress<'b>(
        &mut self,
        endpoint: &mut Endpoint,
        compressed: Compressed<'_>,
    ) -> Result<Option<Item<'b>>, Violation> {
        let State::Open {
            deflate: Some(terms),
            streams,
            ..
        } = &mut self.state
        else {
            unreachable!("without permessage-deflate, a compressed message is a violation");
        };
        let codec = endpoint
            .codec
            .as_mut()
            .expect("permessage-deflate was negotiated with this endpoint");
        let limit = endpoint.config.max_message_size;
        codec
            .decompress(*terms, streams.as_deref_mut(), compressed, limit)
            .map(|message| Some(Item::Message(message)))
    }

    /// Returns the bytes of memory of the message that is arriving.
    #[must_use]
    pub fn assembly_size(&self) -> usize {
        self.receiver().map_or(0, Receiver::size)
    }

    /// Returns the number of bytes that are missing of the data frame that is arriving; 0 between frames
    /// and within a control frame. It limits the bytes of a [lent buffer](Self::lend_assembly).
    #[inline]
    #[must_use]
    pub fn to_come(&self) -> u64 {
        self.receiver().map_or(0, Receiver::to_come)
    }

    /// Lends the free end of the buffer of the message that is arriving, so that the rest of the frame can
    /// be received into it without a copy.
    ///
    /// The buffer is empty. Append at most [`to_come`](Self::to_come) bytes, within its capacity, and pass
    /// it to [`receive_assembly`](Self::receive_assembly); receive nothing else until then. The capacity
    /// is below `to_come` where the message would otherwise take more than four times the memory of what
    /// has arrived. Returns `None` if no data frame is arriving, or if the buffer is lent already.
    pub fn lend_assembly(&mut self) -> Option<BytesMut> {
        self.receiver_mut()?.lend()
    }

    /// Takes the [lent buffer](Self::lend_assembly) back with the bytes that were received into it.
    ///
    /// [`poll_event`](Self::poll_event) reads these bytes next, before those of its input. Bytes in
    /// another buffer are copied.
    ///
    /// # Panics
    ///
    /// If there are more bytes than [`to_come`](Self::to_come), or if the bytes of the previous loan are
    /// not read yet.
    pub fn receive_assembly(&mut self, received: BytesMut, now: Time) {
        if !received.is_empty() {
            self.heard = now;
        }
        if let Some(receiver) = self.receiver_mut() {
            receiver.take_back(received);
        }
    }

    /// Returns whether bytes of a buffer that was [taken back](Self::receive_assembly) are not read yet.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.receiver().is_some_and(Receiver::is_unread)
    }

    fn receiver(&self) -> Option<&Receiver> {
        match &self.state {
            State::Open { receiver, .. } => Some(receiver),
            State::Closing { closing, .. } => Some(&closing.receiver),
            State::Lingering { .. }
            | State::AwaitingEof { .. }
            | State::Expired { .. }
            | State::Released { .. } => None,
        }
    }

    fn receiver_mut(&mut self) -> Option<&mut Receiver> {
        match &mut self.state {
            State::Open { receiver, .. } => Some(receiver),
            State::Closing { closing, .. } => Some(&mut closing.receiver),
            State::Lingering { .. }
            | State::AwaitingEof { .. }
            | State::Expired { .. }
            | State::Released { .. } => None,
        }
    }
}
