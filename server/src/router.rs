//! Several handlers on one port, by path.

use std::convert::Infallible;

use tidewheel_codec::Disconnect;

use crate::{Conn, Handler, Link, Message, Request, Response, Verdict, call::Call, contain};

/// A handler that consists of other handlers, each with its own path and its own state of a connection.
///
/// The path `/chat` is that of `/chat` and of all paths that begin with `/chat/`. The longest matching path of a route
/// applies; `/` matches all. Paths are compared as received, and a route gets the whole path. Other paths get 404.
///
/// A connection belongs to its route: only this handler is called for it. [`Remote<Chat>`](crate::Remote) calls closures
/// with connections of the routes whose handler is `Chat`, and answers `Gone` for others.
///
/// The callbacks about topics are called for all routes, also if that of one route panics. If those of several routes
/// panic, one of the panics is logged and counted.
///
/// ```
/// # use tidewheel::{Conn, Handler, Message, Request, Response, Router, Verdict};
/// struct Chat;
///
/// impl Handler for Chat {
///     /// The room.
///     type State = String;
///
///     fn upgrade(&mut self, request: &Request<'_>) -> Verdict<String> {
///         Verdict::accept(request.segments().skip(1).collect())
///     }
///
///     fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
///         conn.send(message);
///     }
/// }
///
/// struct Feed;
///
/// impl Handler for Feed {
///     type State = ();
///
///     fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
///         Verdict::accept(())
///     }
///
///     fn http(&mut self, _: &Request<'_>) -> Response {
///         Response::text(200, "a feed")
///     }
///
///     fn message(&mut self, _: &mut Conn<'_, Self>, _: Message<'_>) {}
/// }
///
/// let router = Router::new("/chat", Chat).or("/feed", Feed);
/// ```
#[derive(Debug)]
pub struct Router<H, R = NoRoute> {
    /// Without a slash at the end.
    path: Box<str>,
    handler: H,
    others: R,
}

/// The state of a connection of a [`Router`].
#[derive(Debug)]
pub enum Routed<S, O> {
    /// The connection belongs to the route that was added last, and has its state.
    This(S),
    /// The connection belongs to another route.
    Other(O),
}

/// The handler of paths without a route: 404.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRoute;

impl<H: Handler> Router<H> {
    /// A router with one route.
    ///
    /// # Panics
    /// If `path` does not begin with a slash.
    #[must_use]
    pub fn new(path: &str, handler: H) -> Self {
        NoRoute.with(path, handler)
    }
}

impl<H: Handler, R: Routes> Router<H, R> {
    /// Adds a route. Of two routes with the same path, the first one applies.
    ///
    /// # Panics
    /// If `path` does not begin with a slash.
    #[must_use]
    pub fn or<N: Handler>(self, path: &str, handler: N) -> Router<N, Self> {
        self.with(path, handler)
    }

    /// Returns whether the route that was added last is that of a path.
    fn is_route(&self, path: &str) -> bool {
        self.match_length(path) > self.others.match_length(path)
    }
}

/// The routes of a router.
#[doc(hidden)]
pub trait Routes: Handler {
    /// Length of the longest path of a route that matches a path.
    fn match_length(&self, path: &str) -> Option<usize>;

    /// Adds a route.
    fn with<N: Handler>(self, path: &str, handler: N) -> Router<N, Self> {
        assert!(
            path.starts_with('/'),
            "the path of a route begins with a slash: {path:?}"
        );
        Router {
            path: path.trim_end_matches('/').into(),
            handler,
            others: self,
        }
    }
}

impl Routes for NoRoute {
    fn match_length(&self, _: &str) -> Option<usize> {
        None
    }
}

impl<H: Handler, R: Routes> Routes for Router<H, R> {
    fn match_length(&self, path: &str) -> Option<usize> {
        let rest = path.strip_prefix(&*self.path);
        let is_match = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let length = is_match.then_some(self.path.len());
        length.max(self.others.match_length(path))
    }
}

impl Handler for NoRoute {
    type State = Infallible;

    fn upgrade(&mut self, _: &Request<'_>) -> Verdict<Infallible> {
        Verdict::reject(Response::text(404, "not found\n"))
    }

    fn http(&mut self, _: &Request<'_>) -> Response {
        Response::text(404, "not found\n")
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, _: Message<'_>) {
        match *conn.state() {}
    }
}

/// A connection of a router, as its route uses it.
enum RouteConn<'c, H: Handler, R: Handler> {
    This(Conn<'c, H>),
    Other(Conn<'c, R>),
}

impl<'c, H: Handler, R: Routes> RouteConn<'c, H, R> {
    fn of(conn: &'c mut Conn<'_, Router<H, R>>) -> Self {
        let (state, link) = conn.split();
        match state {
            Routed::This(state) => Self::This(Conn::new(Link::of(link), state)),
            Routed::Other(state) => Self::Other(Conn::new(Link::of(link), state)),
        }
    }
}

impl<H: Handler, R: Routes> Handler for Router<H, R> {
    type State = Routed<H::State, R::State>;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<Self::State> {
        match self.is_route(request.path()) {
            true => self.handler.upgrade(request).map(Routed::This),
            false => self.others.upgrade(request).map(Routed::Other),
        }
    }

    fn http(&mut self, request: &Request<'_>) -> Response {
        match self.is_route(request.path()) {
            true => self.handler.http(request),
            false => self.others.http(request),
        }
    }

    fn open(&mut self, conn: &mut Conn<'_, Self>) {
        match RouteConn::of(conn) {
            RouteConn::This(mut conn) => self.handler.open(&mut conn),
            RouteConn::Other(mut conn) => self.others.open(&mut conn),
        }
    }

    fn message(&mut self, conn: &mut Conn<'_, Self>, message: Message<'_>) {
        match RouteConn::of(conn) {
            RouteConn::This(mut conn) => self.handler.message(&mut conn, message),
            RouteConn::Other(mut conn) => self.others.message(&mut conn, message),
        }
    }

    fn drained(&mut self, conn: &mut Conn<'_, Self>) {
        match RouteConn::of(conn) {
            RouteConn::This(mut conn) => self.handler.drained(&mut conn),
            RouteConn::Other(mut conn) => self.others.drained(&mut conn),
        }
    }

    fn gap(&mut self, conn: &mut Conn<'_, Self>, missed: u64) {
        match RouteConn::of(conn) {
            RouteConn::This(mut conn) => self.handler.gap(&mut conn, missed),
            RouteConn::Other(mut conn) => self.others.gap(&mut conn, missed),
        }
    }

    fn close(&mut self, conn: &mut Conn<'_, Self>, end: &Disconnect) {
        match RouteConn::of(conn) {
            RouteConn::This(mut conn) => self.handler.close(&mut conn, end),
            RouteConn::Other(mut conn) => self.others.close(&mut conn, end),
        }
    }

    fn span<'s>(&self, state: &'s Self::State) -> Option<&'s tracing::Span> {
        match state {
            Routed::This(state) => self.handler.span(state),
            Routed::Other(state) => self.others.span(state),
        }
    }

    fn topic_active(&mut self, pattern: &str) {
        let others = contain::catch(|| self.others.topic_active(pattern));
        self.handler.topic_active(pattern);
        others.unwrap_or_else(|panic| panic.resume());
    }

    fn topic_idle(&mut self, pattern: &str) {
        let others = contain::catch(|| self.others.topic_idle(pattern));
        self.handler.topic_idle(pattern);
        others.unwrap_or_else(|panic| panic.resume());
    }

    fn resume(&mut self, conn: &mut Conn<'_, Self>, call: Call) -> Result<(), Call> {
        let Err(call) = call.run(self, conn) else {
            return Ok(());
        };
        match RouteConn::of(conn) {
            RouteConn::This(mut conn) => self.handler.resume(&mut conn, call),
            RouteConn::Other(mut conn) => self.others.resume(&mut conn, call),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;

    /// A handler with a number.
    struct Numbered(u16);

    impl Handler for Numbered {
        type State = ();

        fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
            Verdict::accept(())
        }

        fn http(&mut self, _: &Request<'_>) -> Response {
            Response::new(self.0)
        }

        fn message(&mut self, _: &mut Conn<'_, Self>, _: Message<'_>) {}
    }

    #[test]
    fn the_longest_matching_path_applies() {
        let status = |router: &mut dyn FnMut(&Request<'_>) -> Response, path: &str| {
            crate::request::tests::with_request(&format!("GET {path}"), "", |request| {
                router(request).status()
            })
        };
        let mut router = Router::new("/a", Numbered(201))
            .or("/a/b/", Numbered(202))
            .or("/ab", Numbered(203))
            .or("/a", Numbered(204));
        for (path, expected) in [
            ("/a", 201),
            ("/a/", 201),
            ("/a/c/d", 201),
            ("/a/b", 202),
            ("/a/b/c?d", 202),
            ("/a/bc", 201),
            ("/ab", 203),
            ("/abc", 404),
            ("/", 404),
            ("/A", 404),
        ] {
            assert_eq!(status(&mut |it| router.http(it), path), expected, "{path}");
        }
        let mut router = router.or("/", Numbered(205));
        for (path, expected) in [("/", 205), ("/abc", 205), ("/a/x", 201)] {
            assert_eq!(status(&mut |it| router.http(it), path), expected, "{path}");
        }
    }

    /// A handler that panics when it is called for a topic with this name.
    struct Topics {
        panics_at: &'static str,
        calls: Rc<Cell<usize>>,
    }

    impl Handler for Topics {
        type State = ();

        fn upgrade(&mut self, _: &Request<'_>) -> Verdict<()> {
            Verdict::accept(())
        }

        fn message(&mut self, _: &mut Conn<'_, Self>, _: Message<'_>) {}

        fn topic_active(&mut self, pattern: &str) {
            self.calls.set(self.calls.get() + 1);
            assert_ne!(pattern, self.panics_at);
        }

        fn topic_idle(&mut self, pattern: &str) {
            self.topic_active(pattern);
        }
    }

    #[test]
    fn a_panic_in_the_topic_callback_of_a_route_keeps_it_from_no_other_route() {
        let calls = Rc::default();
        let route = |panics_at| Topics {
            panics_at,
            calls: Rc::clone(&calls),
        };
        let mut router = Router::new("/a", route("a"))
            .or("/b", route("b"))
            .or("/c", route("c"));
        for (topic, panics) in [("a", true), ("b", true), ("c", true), ("d", false)] {
            let active = contain::catch(|| router.topic_active(topic));
            let idle = contain::catch(|| router.topic_idle(topic));
            assert_eq!((active.is_err(), idle.is_err()), (panics, panics));
            assert_eq!(calls.take(), 6, "{topic}");
        }
    }

    #[test]
    #[should_panic(expected = "begins with a slash: \"chat\"")]
    fn the_path_of_a_route_begins_with_a_slash() {
        let _ = Router::new("chat", Numbered(200));
    }
}
