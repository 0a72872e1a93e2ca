//! A connection, as a handler uses it.

mod delivery;
mod link;
mod slow_consumer;

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

pub(crate) use self::delivery::Postpone;
pub use self::link::{Link, PublishError, Sent};
use crate::Handler;

/// One connection, lent to a callback of the handler `H`: a [`Link`], and the application's state.
///
/// The methods of [`Link`] can be called on it.
pub struct Conn<'a, H: Handler> {
    link: Link<'a, H>,
    state: &'a mut H::State,
}

impl<'a, H: Handler> Conn<'a, H> {
    pub(crate) fn new(link: Link<'a, H>, state: &'a mut H::State) -> Self {
        Self { link, state }
    }

    /// Calls `callback` within the span of the connection, if the application has one.
    ///
    /// It has two calls of a closure, and not one with an optional guard or two calls of the handler, because the
    /// compiler then still inlines the handler: these cost 6, 41 and 26 instructions for a message without a span.
    #[inline]
    pub(crate) fn within_span<T>(
        &mut self,
        handler: &mut H,
        callback: impl FnOnce(&mut H, &mut Self) -> T,
    ) -> T {
        match handler.span(self.state) {
            None => callback(handler, self),
            Some(span) => {
                let _entered = span.clone().entered();
                callback(handler, self)
            }
        }
    }

    /// The application's state of the connection.
    pub fn state(&mut self) -> &mut H::State {
        self.state
    }

    /// The application's state, and the rest of the connection, to use both at the same time.
    ///
    /// ```
    /// # use tidewheel::{Conn, Handler, Message, Request, Verdict};
    /// # struct Chat;
    /// # impl Handler for Chat {
    /// #     type State = String;
    /// #     fn upgrade(&mut self, _: &Request<'_>) -> Verdict<String> { Verdict::accept(String::new()) }
    /// fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
    ///     let (topic, link) = conn.split();
    ///     if link.publish(topic, message).is_err() {
    ///         link.send("not published");
    ///     }
    /// }
    /// # }
    /// ```
    pub fn split(&mut self) -> (&mut H::State, &mut Link<'a, H>) {
        (self.state, &mut self.link)
    }
}

impl<'a, H: Handler> Deref for Conn<'a, H> {
    type Target = Link<'a, H>;

    fn deref(&self) -> &Self::Target {
        &self.link
    }
}

impl<H: Handler> DerefMut for Conn<'_, H> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.link
    }
}

impl<H: Handler> fmt::Debug for Conn<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("id", &self.id())
            .field("unsent", &self.unsent())
            .finish_non_exhaustive()
    }
}
