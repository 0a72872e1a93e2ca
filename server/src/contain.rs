//! Catches panics of callbacks, so that a panic of the application ends one connection only.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    future::poll_fn,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    pin::pin,
    sync::Once,
    task::Poll,
};

/// Code of the application that a shard calls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Callback {
    Upgrade,
    Http,
    Open,
    Message,
    Drained,
    Gap,
    Close,
    TopicActive,
    TopicIdle,
    /// A closure of another thread.
    Call,
    /// The closure of a timer.
    Timer,
    /// A task, or the closure that follows it.
    #[cfg(feature = "tasks")]
    Task,
    /// The destructor of a connection's state.
    DropState,
}

impl Callback {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Upgrade => "upgrade",
            Self::Http => "http",
            Self::Open => "open",
            Self::Message => "message",
            Self::Drained => "drained",
            Self::Gap => "gap",
            Self::Close => "close",
            Self::TopicActive => "topic_active",
            Self::TopicIdle => "topic_idle",
            Self::Call => "closure of a Remote",
            Self::Timer => "timer",
            #[cfg(feature = "tasks")]
            Self::Task => "task",
            Self::DropState => "drop of the state",
        }
    }
}

/// A panic that was caught.
pub(crate) struct Panic {
    /// `None` after it was taken, to be dropped or resumed.
    payload: Option<Box<dyn Any + Send>>,
    location: String,
}

impl Drop for Panic {
    /// Drops the payload, a value of the application whose destructor may panic.
    fn drop(&mut self) {
        if let Some(payload) = self.payload.take()
            && let Err(second) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload)))
        {
            std::mem::forget(second);
        }
    }
}

impl std::fmt::Debug for Panic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a panic at {}: {}", self.location, self.message())
    }
}

impl Panic {
    /// The message of the panic.
    pub(crate) fn message(&self) -> &str {
        let payload = self.payload.as_deref();
        let text = payload.and_then(|it| it.downcast_ref::<&str>()).copied();
        let string = payload.and_then(|it| it.downcast_ref::<String>());
        text.or(string.map(String::as_str))
            .unwrap_or("a payload that is no text")
    }

    /// File, line and column.
    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    /// Resumes the panic.
    pub(crate) fn resume(mut self) -> ! {
        LOCATION.set(Some(std::mem::take(&mut self.location)));
        match self.payload.take() {
            Some(payload) => panic::resume_unwind(payload),
            None => unreachable!("the payload is taken once"),
        }
    }
}

thread_local! {
    /// Whether panics of this thread are caught and logged.
    static CATCHES: Cell<bool> = const { Cell::new(false) };
    /// The location of the last panic of this thread.
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes that panics of the calling thread are caught and logged from now on. The panic hook does not print
/// them, unless the log discards errors.
pub(crate) fn catch_on_this_thread() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !note(info) {
                previous(info);
            }
        }));
    });
    CATCHES.set(true);
}

/// Notes the location of a panic. Returns whether the panic will be logged.
fn note(info: &PanicHookInfo<'_>) -> bool {
    let catches = CATCHES.try_with(Cell::get).unwrap_or(false);
    if catches && let Some(location) = info.location() {
        // It fails only while the thread ends.
        let _ = LOCATION.try_with(|it| it.replace(Some(location.to_string())));
    }
    catches && tracing::event_enabled!(tracing::Level::ERROR)
}

/// Calls `run`. Returns its panic with message and location.
#[inline]
pub(crate) fn catch<T>(run: impl FnOnce() -> T) -> Result<T, Panic> {
    panic::catch_unwind(AssertUnwindSafe(run)).map_err(|payload| Panic {
        payload: Some(payload),
        location: LOCATION
            .take()
            .unwrap_or_else(|| "an unknown place".to_owned()),
    })
}

/// Polls `future`. Returns its panic with message and location.
pub(crate) async fn catch_future<T>(future: impl Future<Output = T>) -> Result<T, Panic> {
    let mut future = pin!(future);
    poll_fn(|context| match catch(|| future.as_mut().poll(context)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_destructor_of_a_payload_is_caught() {
        /// Zero-sized, because a payload that panics is leaked, and a leak checker would find it.
        struct Bomb;
        thread_local! {
            static LEFT: Cell<u32> = const { Cell::new(3) };
        }
        impl Drop for Bomb {
            fn drop(&mut self) {
                if LEFT.get() > 0 {
                    LEFT.set(LEFT.get() - 1);
                    panic::panic_any(Bomb);
                }
            }
        }
        let panic = catch(|| panic::panic_any(Bomb)).expect_err("it panics");
        assert!(catch(|| drop(panic)).is_ok());
    }

    #[test]
    fn a_caught_panic_has_message_and_location() {
        catch_on_this_thread();
        let line = line!() + 1;
        let panic = catch(|| panic!("number {}", 7)).expect_err("it panics");
        assert_eq!(panic.message(), "number 7");
        let place = format!("{}:{line}:", file!());
        assert!(panic.location().starts_with(&place), "{}", panic.location());
        let panic = catch(|| panic::panic_any(7)).expect_err("it panics");
        assert_eq!(panic.message(), "a payload that is no text");
        assert_eq!(catch(|| 7).ok(), Some(7));
        let first = catch(|| panic!("again")).expect_err("it panics");
        let (location, again) = (first.location.clone(), catch(|| first.resume()));
        let again = again.expect_err("the panic is resumed");
        assert_eq!((again.message(), again.location()), ("again", &*location));
    }
}
