use crate::close::CloseCode;

/// A violation of the protocol by the peer. The connection fails with [`Violation::close_code`].
///
/// The `Display` text is the reason of the Close frame, so it has at most 123 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A reserved bit is set without an extension that defines it (RFC 6455 5.2).
    #[error("reserved bits are {got:#05b}; none was negotiated for this frame")]
    ReservedBits {
        /// RSV1, RSV2, RSV3 as bits 2, 1, 0.
        got: u8,
    },
    /// The opcode is 3-7 or 11-15, which are reserved (RFC 6455 5.2).
    #[error("opcode {got:#x} is reserved")]
    ReservedOpcode {
        /// The received opcode.
        got: u8,
    },
    /// A client's frame is not masked (RFC 6455 5.1: "a client MUST mask all frames that it sends").
    #[error("client frame is not masked")]
    UnmaskedClientFrame,
    /// A server's frame is masked (RFC 6455 5.1: "a server MUST NOT mask any frames that it sends").
    #[error("server frame is masked")]
    MaskedServerFrame,
    /// A control frame is fragmented (RFC 6455 5.5).
    #[error("control frame is fragmented")]
    FragmentedControlFrame,
    /// The payload of a control frame is longer than 125 bytes (RFC 6455 5.5).
    #[error("control frame payload is {got} bytes or more; limit is 125")]
    ControlFrameTooLong {
        /// The smallest length that the first two bytes of the frame allow: 126 or 65,536.
        got: u32,
    },
    /// The payload length is not encoded in "the minimal number of bytes" (RFC 6455 5.2).
    #[error("payload length {got} is not encoded minimally")]
    NonMinimalLength {
        /// The payload length of the header.
        got: u64,
    },
    /// The top bit of the payload length is not 0 (RFC 6455 5.2).
    #[error("64-bit payload length has its top bit set")]
    LengthTopBit,
    /// A continuation frame has no message to continue (RFC 6455 5.4).
    #[error("continuation frame without a message to continue")]
    UnexpectedContinuation,
    /// A message begins before the last fragment of the previous one (RFC 6455 5.4).
    #[error("new message before the last fragment of the previous one")]
    InterleavedMessage,
    /// The payload of a Close frame is 1 byte, which cannot hold the code (RFC 6455 5.5.1).
    #[error("close frame payload is 1 byte; a code takes 2")]
    TruncatedCloseCode,
    /// The code of a Close frame must not be sent (RFC 6455 7.4).
    #[error("close code {got} must not be sent")]
    InvalidCloseCode {
        /// The received code.
        got: u16,
    },
    /// The reason of a Close frame is not valid UTF-8 (RFC 6455 5.5.1).
    #[error("close reason is not valid UTF-8")]
    InvalidCloseReason,
    /// A text message is not valid UTF-8 (RFC 6455 8.1).
    #[error("text message is not valid UTF-8")]
    InvalidUtf8,
    /// A compressed message is not a sequence of DEFLATE blocks (RFC 7692 7.2.2).
    #[error("compressed message is not valid DEFLATE")]
    CorruptDeflate,
    /// A frame exceeds `Config::max_frame_size` (RFC 6455 10.4).
    #[error("frame payload is {got} bytes; limit is {limit}")]
    FrameTooBig {
        /// The payload length of the header.
        got: u64,
        /// The limit in bytes; larger than the configured one for a compressed frame.
        limit: usize,
    },
    /// A message exceeds `Config::max_message_size` (RFC 6455 10.4).
    #[error("message is {got} bytes or more; limit is {limit}")]
    MessageTooBig {
        /// Payload bytes received before the current frame, plus the payload length of that frame.
        got: u64,
        /// The limit in bytes; larger than the configured one while a message is compressed.
        limit: usize,
    },
    /// A message exceeds `Config::max_fragments` (RFC 6455 10.4).
    #[error("message has more than {limit} fragments")]
    TooManyFragments {
        /// The limit.
        limit: u32,
    },
}

impl Violation {
    /// Returns the close code of the violation (RFC 6455 7.4.1).
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
