//! The policy for panics of the handler.

/// The policy for a panic in a callback of a [`Handler`](crate::Handler). Every panic is logged with its message
/// and location, and counted.
///
/// The program must unwind (`panic = "unwind"`, the default of all profiles).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// Closes the connection with 1011, internal error, and
    /// [`Cause::HandlerPanic`](crate::Cause::HandlerPanic), after the messages that were sent before.
    /// [`Handler::close`](crate::Handler::close) is called as for any other connection. After a panic in
    /// [`Handler::upgrade`](crate::Handler::upgrade) the client gets status 500.
    #[default]
    CloseConnection,
    /// Stops the server: the shard fails, without calling [`Handler::close`](crate::Handler::close) for its
    /// connections, and the other shards drain.
    StopServer,
}
