use crate::close::CloseCode;

/// A rule that the peer broke; the connection fails with [`Violation::close_code`].
///
/// The message becomes the reason of the Close frame, so each is at most 123 bytes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// RFC 6455 5.2: an RSV bit without an extension that defines it.
    #[error("reserved bits are {got:#05b}; none was negotiated for this frame")]
    ReservedBits {
        /// RSV1, RSV2, RSV3 as bits 2, 1, 0.
        got: u8,
    },
    /// RFC 6455 5.2: opcodes 3-7 and 11-15 are reserved.
    #[error("opcode {got:#x} is reserved")]
    ReservedOpcode {
        /// The opcode as received.
        got: u8,
    },
    /// RFC 6455 5.1: "a client MUST mask all frames that it sends".
    #[error("client frame is not masked")]
    UnmaskedClientFrame,
    /// RFC 6455 5.1: "a server MUST NOT mask any frames that it sends".
    #[error("server frame is masked")]
    MaskedServerFrame,
    /// RFC 6455 5.5: control frames must not be fragmented.
    #[error("control frame is fragmented")]
    FragmentedControlFrame,
    /// RFC 6455 5.5: a control frame has a payload of 125 bytes or less.
    #[error("control frame payload is {got} bytes or more; limit is 125")]
    ControlFrameTooLong {
        /// The least length that the first two bytes announce: 126 or 65536.
        got: u32,
    },
    /// RFC 6455 5.2: "the minimal number of bytes MUST be used to encode the length".
    #[error("payload length {got} is not encoded minimally")]
    NonMinimalLength {
        /// The length as announced.
        got: u64,
    },
    /// RFC 6455 5.2: "the most significant bit MUST be 0".
    #[error("64-bit payload length has its top bit set")]
    LengthTopBit,
    /// RFC 6455 5.4: a continuation frame without a message to continue.
    #[error("continuation frame without a message to continue")]
    UnexpectedContinuation,
    /// RFC 6455 5.4: a new message before the last fragment of the one before.
    #[error("new message before the last fragment of the one before")]
    InterleavedMessage,
    /// RFC 6455 5.5.1: the body of a Close frame is empty or starts with a 2-byte code.
    #[error("close frame payload is 1 byte; a code takes 2")]
    TruncatedCloseCode,
    /// RFC 6455 7.4: a code that must not be sent.
    #[error("close code {got} must not be sent")]
    InvalidCloseCode {
        /// The code as received.
        got: u16,
    },
    /// RFC 6455 5.5.1: the reason of a Close frame is UTF-8.
    #[error("close reason is not valid UTF-8")]
    InvalidCloseReason,
    /// RFC 6455 8.1: a text message is UTF-8.
    #[error("text message is not valid UTF-8")]
    InvalidUtf8,
    /// RFC 7692 7.2.2: a compressed message is a sequence of DEFLATE blocks.
    #[error("compressed message is not valid DEFLATE")]
    CorruptDeflate,
    /// RFC 6455 10.4: a frame above the limit of the configuration.
    #[error("frame payload is {got} bytes; limit is {limit}")]
    FrameTooBig {
        /// The length as announced.
        got: u64,
        /// `Config::max_frame_size`.
        limit: usize,
    },
    /// RFC 6455 10.4: a message above the limit of the configuration.
    #[error("message is {got} bytes or more; limit is {limit}")]
    MessageTooBig {
        /// What has arrived of the message and what its current frame announces.
        got: u64,
        /// `Config::max_message_size`.
        limit: usize,
    },
    /// RFC 6455 10.4: more fragments than the limit of the configuration.
    #[error("message has more than {limit} fragments")]
    TooManyFragments {
        /// `Config::max_fragments`.
        limit: u32,
    },
}

impl Violation {
    /// The code that RFC 6455 7.4.1 asks for.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::ReservedBits { .. }
            | Self::ReservedOpcode { .. }
            | Self::UnmaskedClientFrame
            | Self::MaskedServerFrame
            | Self::FragmentedControlFrame
            | Self::ControlFrameTooLong { .. }
            | Self::NonMinimalLength { .. }
            | Self::LengthTopBit
            | Self::UnexpectedContinuation
            | Self::InterleavedMessage
            | Self::TruncatedCloseCode
            | Self::InvalidCloseCode { .. } => CloseCode::PROTOCOL_ERROR,
            Self::InvalidCloseReason | Self::InvalidUtf8 | Self::CorruptDeflate => {
                CloseCode::INVALID_FRAME_PAYLOAD_DATA
            }
            Self::FrameTooBig { .. }
            | Self::MessageTooBig { .. }
            | Self::TooManyFragments { .. } => CloseCode::MESSAGE_TOO_BIG,
        }
    }
}
