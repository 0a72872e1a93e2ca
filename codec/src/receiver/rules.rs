use crate::config::Config;
use crate::deflate::{RESERVED_1, wire_size_max};
use crate::frame::{FrameHeader, Opcode};
use crate::role::Role;
use crate::violation::Violation;

/// The configuration and the negotiated extension, with which frames are checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'c> {
    pub(crate) config: &'c Config,
    /// Whether permessage-deflate was negotiated.
    pub(crate) deflate: bool,
}

impl Rules<'_> {
    /// Checks a frame independently of earlier frames.
    #[inline]
    pub(super) fn check_frame(self, header: &FrameHeader) -> Result<(), Violation> {
        if header.reserved != 0 {
            self.check_reserved(header)?;
        }
        match (self.config.role, header.masking_key) {
            (Role::Server, None) => Err(Violation::UnmaskedClientFrame),
            (Role::Client, Some(_)) => Err(Violation::MaskedServerFrame),
            (Role::Server, Some(_)) | (Role::Client, None) => Ok(()),
        }
    }

    /// RFC 7692 6.1: RSV1 is set on the first frame of a compressed message, and on no other.
    #[cold]
    fn check_reserved(self, header: &FrameHeader) -> Result<(), Violation> {
        let starts_message = matches!(header.opcode, Opcode::Text | Opcode::Binary);
        if self.deflate && starts_message && header.reserved == RESERVED_1 {
            Ok(())
        } else {
            Err(Violation::ReservedBits {
                got: header.reserved,
            })
        }
    }

    /// Checks the limits of frame and message: `assembled` bytes of the message have arrived, and its
    /// current frame announces `announced` bytes.
    #[inline]
    pub(super) fn check_sizes(
        self,
        is_compressed: bool,
        assembled: usize,
        announced: u64,
    ) -> Result<(), Violation> {
        let mut limits = (self.config.max_frame_size, self.config.max_message_size);
        if is_compressed {
            limits = (wire_size_max(limits.0), wire_size_max(limits.1));
        }
        if announced > limits.0 as u64 {
            return Err(Violation::FrameTooBig {
                got: announced,
                limit: limits.0,
            });
        }
        let got = (assembled as u64).saturating_add(announced);
        if got > limits.1 as u64 {
            return Err(Violation::MessageTooBig {
                got,
                limit: limits.1,
            });
        }
        Ok(())
    }
}
