/// The side of RFC 6455 that an endpoint plays: clients mask, servers do not (5.1), and servers
/// close TCP first (7.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Connects, masks its frames, and waits for the server to close TCP.
    Client,
    /// Accepts, does not mask, and closes TCP first.
    Server,
}
