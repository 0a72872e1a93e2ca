//! The boundary around callbacks: a panic of the application ends one connection.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    sync::Once,
};

/// Code of the application that a shard calls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Callback {
    Upgrade,
    Open,
    Message,
    Drained,
    Gap,
    Close,
    /// The destructor of a connection's state.
    DropState,
}

impl Callback {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Upgrade => "upgrade",
            Self::Open => "open",
            Self::Message => "message",
            Self::Drained => "drained",
            Self::Gap => "gap",
            Self::Close => "close",
            Self::DropState => "drop of the state",
        }
    }
}

/// A panic that was caught.
pub(crate) struct Panic {
    payload: Box<dyn Any + Send>,
    location: String,
}

impl std::fmt::Debug for Panic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a panic at {}: {}", self.location, self.message())
    }
}

impl Panic {
    /// What it says.
    pub(crate) fn message(&self) -> &str {
        let payload = &*self.payload;
        match payload.downcast_ref::<&str>() {
            Some(text) => text,
            None => payload
                .downcast_ref::<String>()
                .map_or("a payload that is no text", String::as_str),
        }
    }

    /// File, line and column.
    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    /// Goes on unwinding.
    pub(crate) fn resume(self) -> ! {
        LOCATION.set(Some(self.location));
        panic::resume_unwind(self.payload)
    }
}

thread_local! {
    /// Whether somebody on this thread catches panics and logs them.
    static CATCHES: Cell<bool> = const { Cell::new(false) };
    /// Where the last panic of this thread was.
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics of the calling thread are caught and logged from now on. So they need not be printed by the
/// panic hook as well, unless nobody takes the log.
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

/// Notes where a panic is; says whether it will be logged.
fn note(info: &PanicHookInfo<'_>) -> bool {
    let catches = CATCHES.try_with(Cell::get).unwrap_or(false);
    if catches && let Some(location) = info.location() {
        // On a thread that is ending there is nobody to ask.
        let _ = LOCATION.try_with(|it| it.replace(Some(location.to_string())));
    }
    catches && tracing::event_enabled!(tracing::Level::ERROR)
}

/// Runs `run`; if it panics, tells what was said and where.
#[inline]
pub(crate) fn catch<T>(run: impl FnOnce() -> T) -> Result<T, Panic> {
    panic::catch_unwind(AssertUnwindSafe(run)).map_err(|payload| Panic {
        payload,
        location: LOCATION
            .take()
            .unwrap_or_else(|| "an unknown place".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_tells_what_was_said_and_where() {
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
        let again = again.expect_err("it goes on");
        assert_eq!((again.message(), again.location()), ("again", &*location));
    }
}
