//! The meaning of the bytes of an input: the setup comes first, then acts until the bytes end.

use std::time::Duration;

use tidewheel::{
    Config, Deflate, Drain, SlowConsumer, TopicRule,
    ring::sim::{Faults, Simulation},
};

/// Acts of an input; the bytes behind the last one are ignored.
const ACTS_MAX: usize = 64;

/// Clients that an act can name.
pub(crate) const CLIENTS: usize = 16;

/// Milliseconds that all acts of an input together let pass.
const PASS_MS_MAX: u64 = 10_000;

/// Reads an input from its start. Zeros follow its end.
struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        *first
    }

    fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// As many bytes as the next byte says, or all that are left.
    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.rest.len());
        let (bytes, rest) = self.rest.split_at(length);
        self.rest = rest;
        bytes
    }

    fn pick<T: Clone>(&mut self, values: &[T]) -> T {
        values[usize::from(self.byte()) % values.len()].clone()
    }
}

/// The way a run ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// All clients go, every deadline passes, and the shard drains.
    Quiet,
    /// The ring fails behind the last act.
    RingFailure,
}

/// The simulated kernel, the configuration, and the way the run ends. A setup of zeros is an
/// ordinary server on a kernel without faults.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) simulation: Simulation,
    pub(crate) config: Config,
    /// Connections that may stay, at most as many as there are sockets.
    pub(crate) connections: u32,
    pub(crate) ending: Ending,
}

/// Places of the settings in a setup, each one byte unless it says otherwise.
pub mod place {
    /// Two bytes.
    pub const SEED: usize = 0;
    /// Two bytes, with two bits for each chance.
    pub const FAULTS: usize = 2;
    /// Sockets fewer than 16.
    pub const SOCKETS: usize = 4;
    /// Connections fewer than sockets.
    pub const CONNECTIONS: usize = 5;
    pub const BUFFERS: usize = 6;
    pub const BUFFER_SIZE: usize = 7;
    pub const COMPLETIONS: usize = 8;
    pub const SEND_BUFFER: usize = 9;
    pub const LATENCY: usize = 10;
    pub const OPERATION_MS: usize = 11;
    pub const SEND_QUEUE: usize = 12;
    pub const MESSAGE_SIZE: usize = 13;
    pub const SLOW_CONSUMER: usize = 14;
    /// The same for topics below `kept`.
    pub const SLOW_CONSUMER_KEPT: usize = 15;
    pub const PING_INTERVAL: usize = 16;
    pub const PING_TIMEOUT: usize = 17;
    pub const CLOSE_TIMEOUT: usize = 18;
    pub const HANDSHAKE_TIMEOUT: usize = 19;
    pub const IDLE_TIMEOUT: usize = 20;
    pub const LIFETIME: usize = 21;
    pub const COMPRESSION: usize = 22;
    /// Bits for rates and limits.
    pub const OPTIONS: usize = 23;
    /// 7: the ring fails.
    pub const ENDING: usize = 24;
    /// Bytes of a setup.
    pub const COUNT: usize = 25;
}

impl Setup {
    fn read(input: &mut Input<'_>) -> Self {
        let ms = Duration::from_millis;
        let seed = u64::from(input.short());
        let faults = input.short();
        let chance = |fault: u32| [0.0, 0.05, 0.2, 0.5][usize::from(faults >> (2 * fault) & 3)];
        let faults = Faults {
            short_send: chance(0),
            no_buffers: chance(1),
            multishot_end: chance(2),
            late: chance(3),
            small_pieces: chance(4),
            full_queue: chance(5),
        };
        let sockets = 16 - u32::from(input.byte() % 16);
        let connections = sockets - u32::from(input.byte()) % sockets;
        let simulation = Simulation {
            seed,
            sockets,
            buffers: input.pick(&[16, 8, 4, 2, 1]),
            buffer_size: input.pick(&[4096, 1024, 512, 300, 256]),
            completions: input.pick(&[8192, 16, 4, 2, 1]),
            send_buffer: input.pick(&[64 << 10, 8 << 10, 2 << 10, 512]),
            latency_ms_max: input.pick(&[3, 0, 20]),
            operation_ms: input.pick(&[0, 0, 0, 1]),
            faults,
        };
        let policies = [
            SlowConsumer::Close,
            SlowConsumer::CloseTryAgain,
            SlowConsumer::DropOldest,
            SlowConsumer::Conflate,
            SlowConsumer::DropNewest,
        ];
        let mut config = Config {
            receive_buffers: simulation.buffers,
            receive_buffer_size: simulation.buffer_size,
            max_send_queue: input.pick(&[1 << 20, 64 << 10, 8 << 10, 1 << 10, 1]),
            max_message_size: input.pick(&[1 << 20, 16 << 10, 4 << 10, 1000, 125]),
            slow_consumer: input.pick(&policies),
            topics: vec![TopicRule {
                pattern: "kept/>".to_owned(),
                slow_consumer: input.pick(&policies),
            }],
            fanout_memory: 1 << 20,
            ping_interval: input.pick(&[Some(ms(1000)), Some(ms(100)), None]),
            ping_timeout: input.pick(&[Some(ms(1000)), Some(ms(300)), None]),
            close_timeout: input.pick(&[ms(1000), ms(100)]),
            handshake_timeout: input.pick(&[ms(1000), ms(200)]),
            idle_timeout: input.pick(&[None, None, Some(ms(700))]),
            max_lifetime: input.pick(&[None, None, Some(ms(1500))]),
            ..Config::default()
        };
        let deflate = |context_takeover, takeover_budget, window_bits| {
            Some(Deflate {
                threshold: 0,
                context_takeover,
                takeover_budget,
                max_window_bits: window_bits,
                peer_max_window_bits: window_bits,
                ..Deflate::default()
            })
        };
        config.compression = input.pick(&[
            None,
            None,
            deflate(false, 0, 15),
            deflate(true, 64 << 20, 15),
            deflate(true, 1 << 20, 9),
        ]);
        let options = input.byte();
        let option = |bit: u32| options >> bit & 1 == 1;
        config.max_message_rate = option(0).then_some(5);
        config.max_accept_rate = option(1).then_some(10);
        config.max_connections_per_address = option(2).then_some(1);
        if option(3) {
            config.drain = Drain {
                batch: 1,
                interval: ms(50),
                ..Drain::default()
            };
        }
        if option(4) {
            config.request_limits.max_bytes = 300;
            config.request_limits.max_headers = 7;
        }
        let ending = match input.byte() % 8 {
            7 => Ending::RingFailure,
            _ => Ending::Quiet,
        };
        Self {
            simulation,
            config,
            connections,
            ending,
        }
    }
}

/// Something that a client does, or that happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act<'a> {
    /// The client connects and sends a request; with `options` as bits of [`Connect`].
    Connect {
        options: u8,
        /// Bits of what the handler does for this connection, see [`Habit`](super::Habit).
        habits: u8,
    },
    /// The client connects and sends these bytes.
    ConnectRaw { bytes: &'a [u8] },
    /// The client sends a message to be echoed, of this length or the longest allowed.
    Echo { length: u16, is_text: bool },
    /// The same, in frames of 1 to 16 of these bytes, with a Ping between any two.
    Fragments { length: u16, frame_size: u8 },
    /// The client sends several messages to be echoed at once.
    Burst { count: u8, length: u8 },
    /// The client asks the handler for something, see [`Application`](super::Application).
    Command {
        letter: u8,
        argument: u8,
        length: u16,
    },
    /// The client sends bytes, in pieces of this size; 0: in one.
    Raw { piece: u8, bytes: &'a [u8] },
    /// The client sends a masked frame with this first byte.
    Frame { first: u8, length: u16 },
    /// The client shuts down its sending direction.
    Finish,
    /// The client resets its connection.
    Reset,
    /// Nothing passes any more between this client and the server.
    Vanish,
    /// The client reads from now on, or does not.
    Read { is_reading: bool },
    /// The client starts the closing handshake.
    Close,
    /// The client sends a Ping.
    Ping { length: u8 },
    /// Time passes: up to 127 in milliseconds; beyond, in steps of 16 ms up to 2160 ms.
    Pass { time: u8 },
    /// Another thread does something: publishes, sends, closes or drains.
    Remote { what: u8, argument: u8 },
}

/// Bits of [`Act::Connect`]'s options.
#[derive(Debug)]
pub struct Connect;

impl Connect {
    /// Time passes until the connection is open, or 30 ms.
    pub const WAITS: u8 = 1;
    /// It offers compression.
    pub const DEFLATES: u8 = 2;
    /// A message to be echoed follows the request at once.
    pub const HASTENS: u8 = 4;
}

impl<'a> Act<'a> {
    fn read(kind: u8, input: &mut Input<'a>) -> Self {
        match kind {
            0 => Self::Connect {
                options: input.byte(),
                habits: input.byte(),
            },
            1 => Self::ConnectRaw {
                bytes: input.bytes(),
            },
            2 => Self::Echo {
                length: input.short(),
                is_text: false,
            },
            3 => Self::Echo {
                length: input.short(),
                is_text: true,
            },
            4 => Self::Fragments {
                length: input.short(),
                frame_size: input.byte(),
            },
            5 => Self::Burst {
                count: input.byte(),
                length: input.byte(),
            },
            6 => Self::Command {
                letter: input.byte(),
                argument: input.byte(),
                length: input.short(),
            },
            7 => Self::Raw {
                piece: input.byte(),
                bytes: input.bytes(),
            },
            8 => Self::Frame {
                first: input.byte(),
                length: input.short(),
            },
            9 => match input.byte() % 3 {
                0 => Self::Finish,
                1 => Self::Reset,
                _ => Self::Vanish,
            },
            10 => Self::Read {
                is_reading: input.byte() % 2 == 1,
            },
            11 => Self::Close,
            12 => Self::Ping {
                length: input.byte(),
            },
            13 => Self::Remote {
                what: input.byte(),
                argument: input.byte(),
            },
            _ => Self::Pass { time: input.byte() },
        }
    }

    /// Appends the bytes by which `client` does this, which is how stored inputs are made.
    pub fn write(&self, client: u8, out: &mut Vec<u8>) {
        let mut put = |kind: u8, rest: &[u8]| {
            out.push(client << 4 | kind);
            out.extend_from_slice(rest);
        };
        let low = |length: u16| length.to_le_bytes()[0];
        let high = |length: u16| length.to_le_bytes()[1];
        let counted = |bytes: &[u8]| {
            let length = u8::try_from(bytes.len()).expect("at most 255 bytes");
            [&[length], bytes].concat()
        };
        match *self {
            Self::Connect { options, habits } => put(0, &[options, habits]),
            Self::ConnectRaw { bytes } => put(1, &counted(bytes)),
            Self::Echo { length, is_text } => {
                put(2 + u8::from(is_text), &[low(length), high(length)]);
            }
            Self::Fragments { length, frame_size } => {
                put(4, &[low(length), high(length), frame_size]);
            }
            Self::Burst { count, length } => put(5, &[count, length]),
            Self::Command {
                letter,
                argument,
                length,
            } => put(6, &[letter, argument, low(length), high(length)]),
            Self::Raw { piece, bytes } => put(7, &[&[piece], &counted(bytes)[..]].concat()),
            Self::Frame { first, length } => put(8, &[first, low(length), high(length)]),
            Self::Finish => put(9, &[0]),
            Self::Reset => put(9, &[1]),
            Self::Vanish => put(9, &[2]),
            Self::Read { is_reading } => put(10, &[u8::from(is_reading)]),
            Self::Close => put(11, &[]),
            Self::Ping { length } => put(12, &[length]),
            Self::Remote { what, argument } => put(13, &[what, argument]),
            Self::Pass { time } => put(14, &[time]),
        }
    }

    /// The time that passes by itself.
    pub(crate) fn pass_ms(time: u8) -> u64 {
        match time {
            0..128 => u64::from(time),
            128.. => u64::from(time - 120) * 16,
        }
    }
}

/// A whole input: a setup, and which client does what.
pub(crate) struct Script<'a> {
    pub(crate) setup: Setup,
    pub(crate) acts: Vec<(usize, Act<'a>)>,
}

impl<'a> Script<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Self {
        let mut input = Input { rest: bytes };
        let setup = Setup::read(&mut input);
        let mut acts = Vec::new();
        let mut pass_ms = 0;
        while !input.rest.is_empty() && acts.len() < ACTS_MAX {
            let first = input.byte();
            let act = Act::read(first & 15, &mut input);
            if let Act::Pass { time } = act {
                pass_ms += Act::pass_ms(time);
                if pass_ms > PASS_MS_MAX {
                    continue;
                }
            }
            acts.push((usize::from(first >> 4), act));
        }
        Self { setup, acts }
    }
}
