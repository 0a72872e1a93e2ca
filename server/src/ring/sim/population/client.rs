//! One client of a population.

use tidewheel_codec::{
    CloseCode, Time,
    frame::{FrameHeader, Opcode},
};

use super::{
    super::super::Token,
    counts::ClientCounts,
    script::{ClientMessage, Script},
};

/// The state of a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// The descriptor is free.
    Absent,
    /// The connection is accepted; the request is not sent yet.
    Connected,
    /// The request is sent.
    Handshake,
    /// The WebSocket is open.
    Open,
    /// The client has sent Close first.
    Closing,
    /// Both sides have sent Close, or the client's answer is pending.
    Closed,
    /// The server has sent FIN; the client's FIN follows.
    Finished,
    /// The network is cut.
    Vanished,
}

/// A client's end of its connection, and the kernel's state of the server's end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    /// The server's armed receive.
    pub(super) receive: Option<Token>,
    /// The time when bytes of the client last arrived.
    pub(super) heard: Time,
    pub(super) stage: Stage,
    /// Whether the client is on the list of senders.
    pub(super) is_listed: bool,
    /// The payload of an unanswered Ping.
    pong: Option<[u8; 4]>,
    message: Option<ClientMessage>,
    fin: bool,
}

// Ten million clients and the server share the memory of one host.
const _: () = assert!(size_of::<Client>() <= 64);

impl Client {
    pub(super) const ABSENT: Self = Self {
        receive: None,
        heard: Time::from_millis(0),
        stage: Stage::Absent,
        is_listed: false,
        pong: None,
        message: None,
        fin: false,
    };

    pub(super) fn connected(now: Time) -> Self {
        Self {
            heard: now,
            stage: Stage::Connected,
            ..Self::ABSENT
        }
    }

    /// Sets the next message to send.
    pub(super) fn set_message(&mut self, message: ClientMessage) {
        assert!(
            self.message.is_none(),
            "the client has not sent its previous message"
        );
        self.message = Some(message);
    }

    /// Whether the client has bytes to send.
    pub(super) fn has_bytes(&self) -> bool {
        match self.stage {
            Stage::Connected => true,
            Stage::Vanished => false,
            Stage::Absent
            | Stage::Handshake
            | Stage::Open
            | Stage::Closing
            | Stage::Closed
            | Stage::Finished => self.pong.is_some() || self.message.is_some(),
        }
    }

    /// Whether the client has bytes or FIN to send.
    pub(super) fn has_output(&self) -> bool {
        self.has_bytes() || self.fin
    }

    pub(super) fn take_fin(&mut self) -> bool {
        std::mem::take(&mut self.fin)
    }

    /// Returns the bytes to send: request, Pong, message. `number` is the client's number.
    pub(super) fn take_bytes<'s>(&mut self, number: u32, script: &'s mut Script) -> &'s [u8] {
        script.clear_output();
        if self.stage == Stage::Connected {
            self.stage = Stage::Handshake;
            script.push_request();
        }
        if let Some(payload) = self.pong.take() {
            script.push_frame(Opcode::Pong, payload.len(), payload.into_iter());
        }
        match self.message.take() {
            None => {}
            Some(ClientMessage::Echo) => script.push_message(number),
            Some(ClientMessage::Text(text)) => {
                script.push_frame(Opcode::Text, text.len(), text.bytes());
            }
            Some(ClientMessage::Close(code)) => {
                script.push_frame(Opcode::Close, 2, code.0.to_be_bytes().into_iter());
                if self.stage == Stage::Open {
                    self.stage = Stage::Closing;
                }
            }
        }
        script.output()
    }

    /// Reads bytes of the server, which must be valid.
    pub(super) fn read(
        &mut self,
        mut bytes: &[u8],
        number: u32,
        script: &mut Script,
        counts: &mut ClientCounts,
    ) {
        match self.stage {
            Stage::Vanished => {
                counts.lost += 1;
                return;
            }
            Stage::Handshake => {
                script.check_response(bytes);
                self.stage = Stage::Open;
                counts.opened += 1;
                return;
            }
            Stage::Open | Stage::Closing => {}
            Stage::Absent | Stage::Connected | Stage::Closed | Stage::Finished => {
                panic!(
                    "the server sends to client {number}, which is {:?}",
                    self.stage
                )
            }
        }
        assert!(!bytes.is_empty(), "a send has no bytes");
        while !bytes.is_empty() {
            let header = FrameHeader::parse(bytes)
                .expect("the header is valid")
                .expect("the header is complete");
            assert!(header.fin && header.reserved == 0 && header.masking_key.is_none());
            let (payload, rest) = bytes[header.size()..].split_at(header.payload_len as usize);
            self.read_frame(header.opcode, payload, number, script, counts);
            bytes = rest;
        }
    }

    fn read_frame(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        number: u32,
        script: &Script,
        counts: &mut ClientCounts,
    ) {
        match opcode {
            Opcode::Ping => {
                counts.pings += 1;
                self.pong = Some(payload.try_into().expect("a Ping has 4 bytes"));
            }
            Opcode::Binary => {
                assert!(
                    payload.iter().copied().eq(script.message(number)),
                    "client {number} did not get its own message back"
                );
                counts.echoes += 1;
            }
            Opcode::Text => {
                assert!(
                    payload == script.published().as_bytes(),
                    "the text is not the published one"
                );
                counts.published += 1;
            }
            Opcode::Close => {
                let code = payload.first_chunk().expect("a Close has a code");
                let code = CloseCode(u16::from_be_bytes(*code));
                counts.closes += 1;
                match self.stage {
                    // The answer has the same code (RFC 6455 5.5.1).
                    Stage::Open => self.message = Some(ClientMessage::Close(code)),
                    Stage::Closing => {
                        assert_eq!(
                            code,
                            CloseCode::NORMAL_CLOSURE,
                            "the server answers with the client's code"
                        );
                    }
                    stage => panic!("Close to client {number}, which is {stage:?}"),
                }
                self.stage = Stage::Closed;
            }
            Opcode::Continuation | Opcode::Pong => panic!("the server sends {opcode:?}"),
        }
    }

    /// Receives the server's FIN, and answers with FIN.
    pub(super) fn finish(&mut self) {
        match self.stage {
            Stage::Closed => {
                self.stage = Stage::Finished;
                self.fin = true;
            }
            Stage::Vanished => {}
            stage => panic!("FIN to a client that is {stage:?}"),
        }
    }
}
