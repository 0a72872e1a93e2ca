//! A handle by which any thread calls closures with a connection.

use std::{
    fmt,
    marker::PhantomData,
    ops::Deref,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::sync::oneshot;

use crate::{Conn, ConnectionId, Handler, Publisher, RemoteError, call::SentCall};

/// A handle by which any thread calls closures with a connection of a server with the handler `H`, beside the
/// methods of [`Publisher`]. Cloning it is cheap.
pub struct Remote<H> {
    publisher: Publisher,
    handler: PhantomData<fn(&mut H)>,
}

impl<H: Handler> Remote<H> {
    pub(crate) fn new(publisher: Publisher) -> Self {
        Self {
            publisher,
            handler: PhantomData,
        }
    }

    /// The handle without the type of the handler.
    #[must_use]
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Calls `call` on the thread of a connection's shard, with the handler of the shard and the connection. The
    /// result can be awaited as an [`Answer`], and may be ignored.
    ///
    /// The closure is dropped without a call if the connection is not open any more, or has another handler than `H`.
    /// If it panics, the connection is closed with 1011.
    ///
    /// # Errors
    /// If the shard is busy, or has ended.
    pub fn with<T: Send + 'static>(
        &self,
        id: ConnectionId,
        call: impl FnOnce(&mut H, &mut Conn<'_, H>) -> T + Send + 'static,
    ) -> Result<Answer<T>, RemoteError> {
        let (answer, receiver) = oneshot::channel();
        let call = SentCall::new(move |handler: &mut H, conn: &mut Conn<'_, H>| {
            // Fails if the answer is not awaited.
            let _ = answer.send(call(handler, conn));
        });
        self.publisher.call(id, call)?;
        Ok(Answer { receiver })
    }
}

impl<H> Clone for Remote<H> {
    fn clone(&self) -> Self {
        Self {
            publisher: self.publisher.clone(),
            handler: PhantomData,
        }
    }
}

impl<H> fmt::Debug for Remote<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

impl<H> Deref for Remote<H> {
    type Target = Publisher;

    fn deref(&self) -> &Publisher {
        &self.publisher
    }
}

/// The result of a closure that [`Remote::with`] was given: a future, for any asynchronous runtime.
///
/// It fails with [`RemoteError::Gone`] if the closure was not called, or has panicked.
#[derive(Debug)]
pub struct Answer<T> {
    receiver: oneshot::Receiver<T>,
}

impl<T> Answer<T> {
    /// Blocks the calling thread until the closure was called.
    ///
    /// # Errors
    /// [`RemoteError::Gone`], if the closure was not called, or has panicked.
    ///
    /// # Panics
    /// Within an asynchronous runtime of tokio.
    pub fn wait(self) -> Result<T, RemoteError> {
        self.receiver.blocking_recv().map_err(|_| RemoteError::Gone)
    }
}

impl<T> Future for Answer<T> {
    type Output = Result<T, RemoteError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.receiver).poll(context));
        Poll::Ready(result.map_err(|_| RemoteError::Gone))
    }
}
