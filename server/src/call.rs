//! Closures of the application that a shard calls later, with its handler and a connection.

use std::{any::Any, fmt, marker::PhantomData};

use crate::{Conn, Handler, contain};

/// A closure of another thread that is called once.
type Sent<H> = Box<dyn FnOnce(&mut H, &mut Conn<'_, H>) + Send>;

/// A closure of an application that its shard calls later with a connection.
///
/// It does not show the type of its handler, so that a shard keeps the closures of all its handlers in the same
/// place. [`Handler::resume`] finds the handler.
pub struct Call<'c> {
    /// `None` after it was taken, to be called or dropped.
    kind: Option<Kind>,
    lifetime: PhantomData<&'c ()>,
}

enum Kind {
    /// Holds a [`Sent`].
    Sent(Box<dyn Any + Send>),
}

impl Call<'static> {
    /// A closure of another thread, for the handler `H`.
    pub(crate) fn sent<H: Handler>(
        call: impl FnOnce(&mut H, &mut Conn<'_, H>) + Send + 'static,
    ) -> Self {
        let call: Sent<H> = Box::new(call);
        Self::new(Kind::Sent(Box::new(call)))
    }
}

impl Call<'_> {
    fn new(kind: Kind) -> Self {
        Self {
            kind: Some(kind),
            lifetime: PhantomData,
        }
    }

    /// Calls the closure if it is for the handler `H`, and returns it otherwise.
    pub(crate) fn run<H: Handler>(
        mut self,
        handler: &mut H,
        conn: &mut Conn<'_, H>,
    ) -> Result<(), Self> {
        match self.kind.take() {
            Some(Kind::Sent(call)) => match call.downcast::<Sent<H>>() {
                Ok(call) => call(handler, conn),
                Err(call) => return Err(Self::new(Kind::Sent(call))),
            },
            None => {}
        }
        Ok(())
    }
}

impl Drop for Call<'_> {
    /// Drops a closure that was not called. The destructors of its values may panic.
    fn drop(&mut self) {
        if let Some(kind) = self.kind.take() {
            let _ = contain::catch(|| drop(kind));
        }
    }
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}
