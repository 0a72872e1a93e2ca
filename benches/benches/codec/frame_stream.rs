//! An endless stream of a client's frames.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The same frames again and again.
#[derive(Clone)]
pub struct FrameStream {
    bytes: Vec<u8>,
    position: usize,
    frame_size: usize,
}

impl FrameStream {
    /// Encodes masked text frames: as many complete frames as fit into `size_max` bytes, and one at least. Each has
    /// another masking key.
    pub fn new(text: &str, size_max: usize) -> Self {
        let payload = text.as_bytes();
        let mut bytes = Vec::new();
        let mut frame_size = 0;
        while bytes.is_empty() || bytes.len() + frame_size <= size_max {
            let start = bytes.len();
            let key = (start as u32).wrapping_mul(0x9e37_79b9).to_le_bytes();
            bytes.push(0x81);
            match payload.len() {
                len @ 0..=125 => bytes.push(0x80 | len as u8),
                len @ 126..=0xffff => {
                    bytes.push(0x80 | 126);
                    bytes.extend((len as u16).to_be_bytes());
                }
                len => {
                    bytes.push(0x80 | 127);
                    bytes.extend((len as u64).to_be_bytes());
                }
            }
            bytes.extend(key);
            bytes.extend(
                payload
                    .iter()
                    .zip(key.iter().cycle())
                    .map(|(byte, key)| byte ^ key),
            );
            frame_size = bytes.len() - start;
        }
        Self {
            bytes,
            position: 0,
            frame_size,
        }
    }

    /// Returns all frames once.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the number of frames in [`bytes`](Self::bytes).
    pub fn frames(&self) -> usize {
        self.bytes.len() / self.frame_size
    }

    fn take(&mut self, size_max: usize) -> &[u8] {
        if self.position == self.bytes.len() {
            self.position = 0;
        }
        let start = self.position;
        self.position = self.bytes.len().min(start + size_max);
        &self.bytes[start..self.position]
    }
}

impl Read for FrameStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.take(buffer.len());
        buffer[..taken.len()].copy_from_slice(taken);
        Ok(taken.len())
    }
}

impl Write for FrameStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for FrameStream {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let size_max = buffer.remaining();
        buffer.put_slice(self.get_mut().take(size_max));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for FrameStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
