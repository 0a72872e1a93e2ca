/// The next action of the transport, after it has sent all bytes appended to `out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// Nothing.
    Nothing,
    /// Send FIN after all bytes, then read and discard until the peer's FIN.
    Finish,
    /// Send RST at once and discard unsent bytes. The connection is over.
    Reset,
    /// Close the descriptor: the peer has ended. Bytes that cannot be sent without waiting may be lost. The
    /// connection is over.
    Release,
}
