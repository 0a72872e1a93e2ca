//! Closures of the application that a shard calls later, with its handler and a connection.

use std::{any::Any, fmt, rc::Rc};

use crate::{Conn, Handler, contain};

/// A closure of a task, which is called once.
#[cfg(feature = "tasks")]
type Once<H> = Box<dyn FnOnce(&mut H, &mut Conn<'_, H>)>;

/// A closure of a timer.
pub(crate) type Repeated<H> = Box<dyn Fn(&mut H, &mut Conn<'_, H>)>;

/// A closure of another thread that is called once.
type Sent<H> = Box<dyn FnOnce(&mut H, &mut Conn<'_, H>) + Send>;

/// A closure of an application that its shard calls later with a connection.
///
/// It does not show the type of its handler, so that a shard keeps the closures of all its handlers in the same
/// place. [`Handler::resume`] finds the handler.
pub struct Call {
    /// `None` after it was taken, to be called or dropped.
    kind: Option<Kind>,
}

enum Kind {
    /// Holds a [`Once`].
    #[cfg(feature = "tasks")]
    Once(Box<dyn Any>),
    /// Holds a [`Repeated`].
    Repeated(Rc<dyn Any>),
    /// Holds a [`Sent`].
    Sent(Box<dyn Any + Send>),
}

impl Call {
    /// A closure of a task, for the handler `H`.
    #[cfg(feature = "tasks")]
    pub(crate) fn once<H: Handler>(call: impl FnOnce(&mut H, &mut Conn<'_, H>) + 'static) -> Self {
        let call: Once<H> = Box::new(call);
        Self::new(Kind::Once(Box::new(call)))
    }

    /// A closure of another thread.
    pub(crate) fn sent(mut call: SentCall) -> Self {
        Self {
            kind: call.call.take().map(Kind::Sent),
        }
    }

    fn new(kind: Kind) -> Self {
        Self { kind: Some(kind) }
    }

    /// A closure of a timer: a [`Repeated`] for a handler.
    pub(crate) fn repeated(call: Rc<dyn Any>) -> Self {
        Self::new(Kind::Repeated(call))
    }

    /// Calls the closure if it is for the handler `H`, and returns it otherwise.
    pub(crate) fn run<H: Handler>(
        mut self,
        handler: &mut H,
        conn: &mut Conn<'_, H>,
    ) -> Result<(), Self> {
        match self.kind.take() {
            #[cfg(feature = "tasks")]
            Some(Kind::Once(call)) => match call.downcast::<Once<H>>() {
                Ok(call) => call(handler, conn),
                Err(call) => return Err(Self::new(Kind::Once(call))),
            },
            Some(Kind::Repeated(call)) => match call.downcast::<Repeated<H>>() {
                Ok(call) => call(handler, conn),
                Err(call) => return Err(Self::new(Kind::Repeated(call))),
            },
            Some(Kind::Sent(call)) => match call.downcast::<Sent<H>>() {
                Ok(call) => call(handler, conn),
                Err(call) => return Err(Self::new(Kind::Sent(call))),
            },
            None => {}
        }
        Ok(())
    }
}

impl Drop for Call {
    /// Drops a closure that was not called. The destructors of its values may panic.
    fn drop(&mut self) {
        if let Some(kind) = self.kind.take() {
            let _ = contain::catch(|| drop(kind));
        }
    }
}

/// A closure of another thread, on its way to the shard.
pub(crate) struct SentCall {
    /// Holds a [`Sent`]. `None` after it was taken, to be called or dropped.
    call: Option<Box<dyn Any + Send>>,
    size: usize,
}

impl SentCall {
    /// A closure for the handler `H`.
    pub(crate) fn new<H: Handler>(
        call: impl FnOnce(&mut H, &mut Conn<'_, H>) + Send + 'static,
    ) -> Self {
        let size = size_of_val(&call);
        let call: Sent<H> = Box::new(call);
        Self {
            call: Some(Box::new(call)),
            size,
        }
    }

    /// Size of the closure in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }
}

impl Drop for SentCall {
    /// Drops a closure that was not called. The destructors of its values may panic.
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            let _ = contain::catch(|| drop(call));
        }
    }
}

impl fmt::Debug for SentCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentCall").finish_non_exhaustive()
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}
