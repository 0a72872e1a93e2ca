//! Clients, and the segments between them and the server.

use std::collections::VecDeque;

/// The number of a client, counted from 0 in order of connecting.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub struct ClientId(pub usize);

/// A segment that has reached a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Arrival {
    /// Bytes of the server.
    Bytes(Vec<u8>),
    /// The server's FIN.
    Finish,
    /// The server's RST.
    Reset,
}

/// A segment in the network.
#[derive(Debug)]
pub(super) enum Segment {
    Bytes(Vec<u8>),
    Finish,
    Reset,
}

/// A client's end of its connection.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// The server's direct descriptor, while it is open.
    pub(super) socket: Option<u32>,
    /// The server has closed its descriptor, or has refused the connection.
    pub(super) is_closed: bool,
    /// The connection was accepted when the descriptor table was full, and dropped.
    pub(super) is_dropped: bool,
    /// Segments that reached the server's kernel before the connection was accepted.
    pub(super) early: VecDeque<Segment>,
    /// Segments that the client has not read.
    pub(super) inbox: VecDeque<Arrival>,
    /// Segments are dropped in both directions.
    pub(super) has_vanished: bool,
    /// Arrival time of the newest segment to the server.
    pub(super) to_server_ms: u64,
    /// Arrival time of the newest segment to the client.
    pub(super) to_client_ms: u64,
}
