//! One client of a crowd: what it says, and what it makes of what it hears.

use tidewheel_codec::{
    CloseCode, Time,
    frame::{FrameHeader, Opcode},
    handshake::{ClientRequest, Limits, Response},
};

use super::{super::super::Token, Population, Tally};

/// Something that clients can be told to say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Word {
    /// A binary message, which is to come back.
    Message,
    /// A text message.
    Text(&'static str),
    /// Close with this code.
    Close(CloseCode),
}

/// How far a client has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// There is none in this place.
    Absent,
    /// It is accepted, and its request on the way.
    Connected,
    /// Its request is out.
    Asking,
    /// The WebSocket is open.
    Open,
    /// Its Close is out, and the server's awaited.
    Closing,
    /// Close went both ways.
    Closed,
    /// FIN too.
    Finished,
    /// Its network is cut.
    Silent,
}

/// A client's end of its connection, and the little that the kernel keeps of the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    /// The server's receive, while it is armed.
    pub(super) receive: Option<Token>,
    /// When bytes of the client last arrived.
    pub(super) heard: Time,
    pub(super) stage: Stage,
    /// Whether it is on the list of those that have something to say.
    pub(super) is_speaker: bool,
    /// The payload of the ping to answer.
    pong: Option<[u8; 4]>,
    word: Option<Word>,
    fin: bool,
}

// Ten million of them are to leave room for the server.
const _: () = assert!(size_of::<Client>() <= 64);

/// What all clients of a ring say, and expect.
#[derive(Debug)]
pub(super) struct Script {
    request: Vec<u8>,
    /// How the server has answered it, once the first answer was found to be right.
    response: Vec<u8>,
    asked: ClientRequest<'static>,
    message_size: usize,
    published: String,
    keys: fastrand::Rng,
    /// What is being said.
    words: Vec<u8>,
}

impl Script {
    pub(super) fn new(population: Population) -> Self {
        let Population {
            message_size,
            buffer_size,
            ..
        } = population;
        assert!(
            (8..buffer_size as usize / 2).contains(&message_size),
            "a message of {message_size} bytes is said in one breath"
        );
        let mut keys = fastrand::Rng::with_seed(population.seed);
        let mut nonce = [0; 16];
        keys.fill(&mut nonce);
        let asked = ClientRequest::new("crowd", "/", nonce);
        let mut request = Vec::new();
        asked.write(&mut request);
        Self {
            request,
            response: Vec::new(),
            asked,
            message_size,
            published: population.published,
            keys,
            words: Vec::new(),
        }
    }

    /// The byte at `at` of the message of client `number`.
    fn message_byte(number: u32, at: usize) -> u8 {
        let number = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        number.to_le_bytes()[at % 8]
    }

    fn check_response(&mut self, bytes: &[u8]) {
        if self.response.is_empty() {
            let parsed = Response::parse(bytes, &Limits::default(), &self.asked);
            let (_, size) = parsed
                .expect("the server accepts")
                .expect("the whole response comes at once");
            assert_eq!(size, bytes.len(), "nothing comes behind the response");
            self.response = bytes.to_vec();
        }
        assert!(bytes == self.response, "all get the same response");
    }

    /// Says a frame, whose payload is of so many bytes.
    fn frame(&mut self, opcode: Opcode, length: usize, payload: impl Iterator<Item = u8>) {
        let key: [u8; 4] = self.keys.u32(..).to_be_bytes();
        FrameHeader::new(opcode, Some(key), length as u64).encode(&mut self.words);
        let masked = payload.zip(key.into_iter().cycle());
        self.words.extend(masked.map(|(byte, mask)| byte ^ mask));
    }
}

impl Client {
    pub(super) const ABSENT: Self = Self {
        receive: None,
        heard: Time::from_millis(0),
        stage: Stage::Absent,
        is_speaker: false,
        pong: None,
        word: None,
        fin: false,
    };

    pub(super) fn connected(now: Time) -> Self {
        Self {
            heard: now,
            stage: Stage::Connected,
            ..Self::ABSENT
        }
    }

    pub(super) fn say(&mut self, word: Word) {
        assert!(self.word.is_none(), "one word at a time");
        self.word = Some(word);
    }

    pub(super) fn has_words(&self) -> bool {
        match self.stage {
            Stage::Connected => true,
            Stage::Silent => false,
            Stage::Absent
            | Stage::Asking
            | Stage::Open
            | Stage::Closing
            | Stage::Closed
            | Stage::Finished => self.pong.is_some() || self.word.is_some(),
        }
    }

    pub(super) fn has_to_say(&self) -> bool {
        self.has_words() || self.fin
    }

    pub(super) fn take_fin(&mut self) -> bool {
        std::mem::take(&mut self.fin)
    }

    /// The bytes of what it has to say, the answer to a ping first.
    pub(super) fn speak<'s>(&mut self, number: u32, script: &'s mut Script) -> &'s [u8] {
        script.words.clear();
        if self.stage == Stage::Connected {
            self.stage = Stage::Asking;
            script.words.extend_from_slice(&script.request);
        }
        if let Some(payload) = self.pong.take() {
            script.frame(Opcode::Pong, payload.len(), payload.into_iter());
        }
        match self.word.take() {
            None => {}
            Some(Word::Message) => {
                let length = script.message_size;
                let bytes = (0..length).map(|at| Script::message_byte(number, at));
                script.frame(Opcode::Binary, length, bytes);
            }
            Some(Word::Text(text)) => script.frame(Opcode::Text, text.len(), text.bytes()),
            Some(Word::Close(code)) => {
                script.frame(Opcode::Close, 2, code.0.to_be_bytes().into_iter());
                if self.stage == Stage::Open {
                    self.stage = Stage::Closing;
                }
            }
        }
        &script.words
    }

    /// Reads what the server has sent, which must be what it should be.
    pub(super) fn read(
        &mut self,
        mut bytes: &[u8],
        number: u32,
        script: &mut Script,
        tally: &mut Tally,
    ) {
        match self.stage {
            Stage::Silent => {
                tally.lost += 1;
                return;
            }
            Stage::Asking => {
                script.check_response(bytes);
                self.stage = Stage::Open;
                tally.opened += 1;
                return;
            }
            Stage::Open | Stage::Closing => {}
            Stage::Absent | Stage::Connected | Stage::Closed | Stage::Finished => {
                panic!("client {number} is {:?}, and is sent something", self.stage)
            }
        }
        assert!(!bytes.is_empty(), "a send of nothing");
        while !bytes.is_empty() {
            let header = FrameHeader::parse(bytes)
                .expect("a frame")
                .expect("a whole header");
            assert!(header.fin && header.reserved == 0 && header.masking_key.is_none());
            let (payload, rest) = bytes[header.size()..].split_at(header.payload_len as usize);
            self.hear(header.opcode, payload, number, script, tally);
            bytes = rest;
        }
    }

    fn hear(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        number: u32,
        script: &Script,
        tally: &mut Tally,
    ) {
        match opcode {
            Opcode::Ping => {
                tally.pings += 1;
                self.pong = Some(payload.try_into().expect("pings of 4 bytes"));
            }
            Opcode::Binary => {
                let mut expected =
                    (0..script.message_size).map(|at| Script::message_byte(number, at));
                assert!(
                    payload.len() == script.message_size
                        && payload.iter().all(|byte| Some(*byte) == expected.next()),
                    "client {number} gets its own message back"
                );
                tally.echoes += 1;
            }
            Opcode::Text => {
                assert!(payload == script.published.as_bytes(), "what was published");
                tally.published += 1;
            }
            Opcode::Close => {
                let code = payload
                    .first_chunk()
                    .map(|code| CloseCode(u16::from_be_bytes(*code)));
                let code = code.expect("the server says why");
                tally.closes += 1;
                match self.stage {
                    // It is answered with the same code (RFC 6455 5.5.1).
                    Stage::Open => self.word = Some(Word::Close(code)),
                    Stage::Closing => {
                        assert_eq!(code, CloseCode::NORMAL_CLOSURE, "the answer is our code");
                    }
                    stage => panic!("Close to client {number}, which is {stage:?}"),
                }
                self.stage = Stage::Closed;
            }
            Opcode::Continuation | Opcode::Pong => panic!("{opcode:?} was not asked for"),
        }
    }

    /// The server's FIN is here, and is answered by the client's.
    pub(super) fn finish(&mut self) {
        match self.stage {
            Stage::Closed => {
                self.stage = Stage::Finished;
                self.fin = true;
            }
            Stage::Silent => {}
            stage => panic!("FIN to a client that is {stage:?}"),
        }
    }
}
