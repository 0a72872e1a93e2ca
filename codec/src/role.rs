/// The side of a connection. A client masks its frames (RFC 6455 5.1), and the server closes TCP first
/// (7.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The side that connects.
    Client,
    /// The side that accepts connections.
    Server,
}
