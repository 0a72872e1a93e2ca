//! The head of a request that arrives in parts.

use tidewheel_codec::handshake::{Limits, Request};

/// The part of a request that has arrived.
#[derive(Debug, Default)]
pub(crate) struct Head {
    bytes: Vec<u8>,
    /// Bytes of the whole request, if its head is complete. 32 bits, because the slot of a connection is small.
    whole_size: Option<u32>,
}

impl Head {
    /// Begins with the first bytes, which have no complete request.
    pub(crate) fn new(bytes: &[u8], limits: &Limits) -> Self {
        let bytes = bytes.to_vec();
        Self {
            bytes,
            whole_size: None,
        }
        .parsed(limits)
    }

    /// Notes that a parser has found no complete request.
    pub(crate) fn parsed(mut self, limits: &Limits) -> Self {
        let parsed = Request::parse_head(&self.bytes, limits).ok().flatten();
        self.whole_size = parsed.and_then(|(_, size)| u32::try_from(size).ok());
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends bytes. Returns whether the request may be complete, or is too large. So the number of times that
    /// each byte is parsed is bounded, whatever the size of the parts.
    pub(crate) fn extend(&mut self, bytes: &[u8], limits: &Limits) -> bool {
        // The end of the head may begin in the earlier bytes.
        let at = self.bytes.len().saturating_sub(2);
        self.bytes.extend_from_slice(bytes);
        match self.whole_size {
            Some(size) => self.bytes.len() >= size as usize,
            None => self.bytes.len() >= limits.max_bytes || ends_head(&self.bytes[at..]),
        }
    }
}

/// Returns whether there is an empty line (RFC 9112 2.2: also without carriage returns).
fn ends_head(bytes: &[u8]) -> bool {
    let is_end = |at: usize| {
        let next = &bytes[at + 1..];
        next.starts_with(b"\n") || next.starts_with(b"\r\n")
    };
    let mut line_ends = bytes.iter().zip(0..).filter(|(byte, _)| **byte == b'\n');
    line_ends.any(|(_, at)| is_end(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_in_parts_is_parsed_only_when_it_may_be_complete() {
        let limits = Limits::default();
        let fields = "a: b\r\n".repeat(40);
        let end = "Content-Length: 3\r\n\r\n";
        for (line_end, start) in [
            ("\r\n", "GET / HTTP/1.1\r\nHost: a\r\n"),
            ("\n", "GET / HTTP/1.1\nHost: a\n"),
        ] {
            let request = format!("{start}{}{end}abc", fields.replace("\r\n", line_end));
            let mut head = Head::new(&request.as_bytes()[..1], &limits);
            let mut parsed = Vec::new();
            for at in 1..request.len() {
                if head.extend(&request.as_bytes()[at..=at], &limits) {
                    parsed.push(at + 1);
                    head = head.parsed(&limits);
                }
            }
            assert_eq!(parsed, [request.len() - 3, request.len()]);
        }
    }

    #[test]
    fn a_request_that_never_ends_is_parsed_when_it_is_too_large() {
        let limits = Limits::default();
        let mut head = Head::new(b"G", &limits);
        let parsed = (1..limits.max_bytes).filter(|_| head.extend(b"E", &limits));
        assert_eq!(parsed.collect::<Vec<_>>(), [limits.max_bytes - 1]);
    }
}
