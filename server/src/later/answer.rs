//! An answer to a request that is not there yet.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

/// A future of the application that returns the answer to a request.
pub(crate) struct Later<T>(Pin<Box<dyn Future<Output = T>>>);

impl<T> Later<T> {
    pub(crate) fn new(answer: impl Future<Output = T> + 'static) -> Self {
        Self(Box::pin(answer))
    }
}

impl<T> Future for Later<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.0.as_mut().poll(context)
    }
}

impl<T> fmt::Debug for Later<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Later").finish_non_exhaustive()
    }
}
