//! The format of an input: a setup, then actions until the bytes end.

use std::time::Duration;

use tidewheel::{
    Config, Deflate, SlowConsumer, TopicRule,
    ring::sim::{Faults, Simulation},
};

/// Maximum number of actions; later bytes are ignored.
const ACTIONS_MAX: usize = 64;

/// Number of clients that actions can name.
pub(crate) const CLIENTS: usize = 16;

/// Maximum sum of the times of all [`Action::Pass`] in milliseconds.
const PASS_MS_MAX: u64 = 10_000;

/// Reads an input from its start. After its end, all bytes are zero.
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

    /// Reads a length byte and that number of bytes, or all that are left.
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

/// The end of a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// All clients end, every deadline passes, and the shard drains.
    Quiet,
    /// The ring fails after the last action.
    RingFailure,
}

/// The settings of the simulated kernel and the server, and the end of the run. A setup of zeros is a server
/// with default settings on a kernel without faults.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) simulation: Simulation,
    pub(crate) config: Config,
    /// Maximum number of connections, at most the number of sockets.
    pub(crate) connections: u32,
    pub(crate) ending: Ending,
}

/// Offsets of the settings in a setup. Each takes one byte unless stated otherwise.
pub mod offset {
    /// Two bytes.
    pub const SEED: usize = 0;
    /// Two bytes, with two bits for each probability.
    pub const FAULTS: usize = 2;
    /// 16 minus the number of sockets.
    pub const SOCKETS: usize = 4;
    /// Number of sockets minus the limit on connections.
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
    /// The policy for topics that match `kept/>`.
    pub const SLOW_CONSUMER_KEPT: usize = 15;
    pub const PING_INTERVAL: usize = 16;
    pub const PING_TIMEOUT: usize = 17;
    pub const CLOSE_TIMEOUT: usize = 18;
    pub const HANDSHAKE_TIMEOUT: usize = 19;
    pub const IDLE_TIMEOUT: usize = 20;
    pub const LIFETIME: usize = 21;
    pub const COMPRESSION: usize = 22;
    /// Bits that switch on rates and limits.
    pub const OPTIONS: usize = 23;
    /// 7 modulo 8: the ring fails.
    pub const ENDING: usize = 24;
    /// Size of a setup in bytes.
    pub const COUNT: usize = 25;
}

impl Setup {
    fn read(input: &mut Input<'_>) -> Self {
        let (simulation, connections) = read_simulation(input);
        let config = read_config(input, &simulation);
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

/// Reads the settings of the simulated kernel, and the maximum number of connections.
fn read_simulation(input: &mut Input<'_>) -> (Simulation, u32) {
    let seed = u64::from(input.short());
    let faults = input.short();
    let probability = |fault: u32| [0.0, 0.05, 0.2, 0.5][usize::from(faults >> (2 * fault) & 3)];
    let faults = Faults {
        short_send: probability(0),
        no_buffers: probability(1),
        multishot_end: probability(2),
        late: probability(3),
        small_pieces: probability(4),
        full_queue: probability(5),
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
    (simulation, connections)
}

fn read_config(input: &mut Input<'_>, simulation: &Simulation) -> Config {
    let ms = Duration::from_millis;
    let policies = [
        SlowConsumer::Close,
        SlowConsumer::CloseTryAgain,
        SlowConsumer::DropOldest,
        SlowConsumer::Conflate,
        SlowConsumer::DropNewest,
    ];
    let mut config = Config::default();
    config.receive_buffers = simulation.buffers;
    config.receive_buffer_size = simulation.buffer_size;
    config.max_send_queue = input.pick(&[1 << 20, 64 << 10, 8 << 10, 1 << 10, 1]);
    config.max_message_size = input.pick(&[1 << 20, 16 << 10, 4 << 10, 1000, 125]);
    config.slow_consumer = input.pick(&policies);
    config.topics = vec![TopicRule::new("kept/>", input.pick(&policies))];
    config.fanout_memory = 1 << 20;
    config.presence = true;
    config.ping_interval = input.pick(&[Some(ms(1000)), Some(ms(100)), None]);
    config.ping_timeout = input.pick(&[Some(ms(1000)), Some(ms(300)), None]);
    config.close_timeout = input.pick(&[ms(1000), ms(100)]);
    config.handshake_timeout = input.pick(&[ms(1000), ms(200)]);
    config.idle_timeout = input.pick(&[None, None, Some(ms(700))]);
    config.max_lifetime = input.pick(&[None, None, Some(ms(1500))]);
    config.compression = read_compression(input);
    let options = input.byte();
    let option = |bit: u32| options >> bit & 1 == 1;
    config.max_message_rate = option(0).then_some(5);
    config.max_accept_rate = option(1).then_some(10);
    config.max_connections_per_address = option(2).then_some(1);
    if option(3) {
        config.drain.batch = 1;
        config.drain.interval = ms(50);
    }
    if option(4) {
        config.request_limits.max_bytes = 300;
        config.request_limits.max_headers = 7;
    }
    if option(5) {
        config.max_tasks_per_connection = 2;
    }
    if option(6) {
        config.max_tasks = 3;
    }
    config
}

fn read_compression(input: &mut Input<'_>) -> Option<Deflate> {
    let deflate = |context_takeover, takeover_budget, window_bits| {
        let mut deflate = Deflate::default();
        deflate.threshold = 0;
        deflate.context_takeover = context_takeover;
        deflate.takeover_budget = takeover_budget;
        deflate.max_window_bits = window_bits;
        deflate.peer_max_window_bits = window_bits;
        Some(deflate)
    };
    input.pick(&[
        None,
        None,
        deflate(false, 0, 15),
        deflate(true, 64 << 20, 15),
        deflate(true, 1 << 20, 9),
    ])
}

/// An action of a client, of another thread, or the passing of time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action<'a> {
    /// The client connects and sends a request.
    Connect {
        /// Bits of [`Connect`].
        options: u8,
        /// Bits of [`Behavior`](super::Behavior) for this connection.
        behavior: u8,
    },
    /// The client connects and sends these bytes.
    ConnectRaw { bytes: &'a [u8] },
    /// The client sends a message to be echoed, of this length, or of `max_message_size` if that is less.
    Echo { length: u16, is_text: bool },
    /// The client sends a message to be echoed in frames of 1 to 16 bytes, with a Ping between two frames.
    Fragments { length: u16, frame_size: u8 },
    /// The client sends `count` + 1 messages to be echoed in one segment.
    Burst { count: u8, length: u8 },
    /// The client sends a command to the handler, see [`Application`](super::Application).
    Command {
        letter: u8,
        argument: u8,
        length: u16,
    },
    /// The client sends bytes in segments of `piece` bytes; 0: in one segment.
    Raw { piece: u8, bytes: &'a [u8] },
    /// The client sends a masked frame with this first byte.
    Frame { first: u8, length: u16 },
    /// The client shuts down its sending direction.
    Finish,
    /// The client resets its connection.
    Reset,
    /// All later segments between this client and the server are dropped.
    Vanish,
    /// The client starts or stops reading.
    Read { is_reading: bool },
    /// The client starts the closing handshake.
    Close,
    /// The client sends a Ping.
    Ping { length: u8 },
    /// Time passes: values up to 127 are milliseconds; higher values are steps of 16 ms from 128 to 2160 ms.
    Pass { time: u8 },
    /// Another thread publishes, calls a closure, sends, closes or drains, depending on `what`.
    Remote { what: u8, argument: u8 },
    /// The client connects and sends an HTTP request with a body of `length` modulo 256 bytes.
    Http {
        /// Bits 0 and 1 are the method; bits 3 to 6 the answer's future, as in [`Connect`].
        options: u8,
        /// Bits of [`Behavior`](super::Behavior) for this request. Four times this is the status.
        behavior: u8,
        length: u8,
    },
}

/// Bits of [`Action::Connect`]'s options.
#[derive(Debug)]
pub struct Connect;

impl Connect {
    /// Time passes until the connection is open, at most 30 ms.
    pub const WAITS: u8 = 1;
    /// The client offers compression.
    pub const DEFLATES: u8 = 2;
    /// A message to be echoed follows the request directly.
    pub const SENDS_EARLY: u8 = 4;

    /// The options of a request that a future answers, with these lowest three bits of a
    /// [`Course`](super::task::Course).
    #[must_use]
    pub const fn later(course: u8) -> u8 {
        (course + 1) << 3
    }

    /// The number of the answer's future in the path of the request. 0 for no future.
    pub(crate) fn later_number(options: u8) -> u8 {
        options >> 3 & 15
    }
}

impl<'a> Action<'a> {
    fn read(kind: u8, input: &mut Input<'a>) -> Self {
        match kind {
            0 => Self::Connect {
                options: input.byte(),
                behavior: input.byte(),
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
            14 => Self::Pass { time: input.byte() },
            _ => Self::Http {
                options: input.byte(),
                behavior: input.byte(),
                length: input.byte(),
            },
        }
    }

    /// Appends the encoding of this action of `client`, to make stored inputs.
    pub fn write(&self, client: u8, out: &mut Vec<u8>) {
        let mut put = |kind: u8, rest: &[u8]| {
            out.push(client << 4 | kind);
            out.extend_from_slice(rest);
        };
        let low = |length: u16| length.to_le_bytes()[0];
        let high = |length: u16| length.to_le_bytes()[1];
        let counted = |bytes: &[u8]| {
            let length = u8::try_from(bytes.len()).expect("an action has at most 255 bytes");
            [&[length], bytes].concat()
        };
        match *self {
            Self::Connect { options, behavior } => put(0, &[options, behavior]),
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
            Self::Http {
                options,
                behavior,
                length,
            } => put(15, &[options, behavior, length]),
        }
    }

    /// Upper bound of the bytes of the messages and frames that the client sends.
    pub(crate) fn client_bytes(&self) -> usize {
        match *self {
            Self::Echo { length, .. }
            | Self::Command { length, .. }
            | Self::Frame { length, .. } => usize::from(length),
            // Each frame has a header, and a Ping before it.
            Self::Fragments { length, .. } => usize::from(length) * 21,
            Self::Burst { count, length } => (usize::from(count) + 1) * (usize::from(length) + 8),
            Self::Connect { .. }
            | Self::ConnectRaw { .. }
            | Self::Raw { .. }
            | Self::Finish
            | Self::Reset
            | Self::Vanish
            | Self::Read { .. }
            | Self::Close
            | Self::Ping { .. }
            | Self::Pass { .. }
            | Self::Remote { .. }
            | Self::Http { .. } => 0,
        }
    }

    /// The time of an [`Action::Pass`] in milliseconds.
    pub(crate) fn pass_ms(time: u8) -> u64 {
        match time {
            0..128 => u64::from(time),
            128.. => u64::from(time - 120) * 16,
        }
    }
}

/// A decoded input: a setup, and actions with the index of their client.
pub(crate) struct Script<'a> {
    pub(crate) setup: Setup,
    pub(crate) actions: Vec<(usize, Action<'a>)>,
}

impl<'a> Script<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Self {
        let mut input = Input { rest: bytes };
        let setup = Setup::read(&mut input);
        let mut actions = Vec::new();
        let mut pass_ms = 0;
        while !input.rest.is_empty() && actions.len() < ACTIONS_MAX {
            let first = input.byte();
            let action = Action::read(first & 15, &mut input);
            if let Action::Pass { time } = action {
                pass_ms += Action::pass_ms(time);
                if pass_ms > PASS_MS_MAX {
                    continue;
                }
            }
            actions.push((usize::from(first >> 4), action));
        }
        Self { setup, actions }
    }
}
