//! Sessions that may be resumed: each client keeps its own, as if it were somebody's browser.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use rustls::{
    NamedGroup,
    client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
    pki_types::ServerName,
};

/// What clients know of the server from their last connections.
///
/// rustls asks for it by the server's name only; so whoever calls rustls says first for which client
/// it is. All of it happens on the fleet's thread.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    client: AtomicU32,
    known: Mutex<HashMap<u32, Known>>,
}

/// What one client knows.
#[derive(Debug, Default)]
struct Known {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    /// The last of those that the server gave. It is used once (RFC 8446 C.4).
    tls13: Option<Tls13ClientSessionValue>,
}

impl Tickets {
    /// What follows is for this client.
    pub(super) fn turn_to(&self, client: u32) {
        self.client.store(client, Ordering::Relaxed);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u32, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the client knows that it is about.
    fn with<T>(&self, see: impl FnOnce(&mut Known) -> T) -> T {
        let client = self.client.load(Ordering::Relaxed);
        see(self.known().entry(client).or_default())
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _server: ServerName<'static>, group: NamedGroup) {
        self.with(|known| known.group = Some(group));
    }

    fn kx_hint(&self, _server: &ServerName<'_>) -> Option<NamedGroup> {
        self.with(|known| known.group)
    }

    fn set_tls12_session(&self, _server: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.with(|known| known.tls12 = Some(value));
    }

    fn tls12_session(&self, _server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.with(|known| known.tls12.clone())
    }

    fn remove_tls12_session(&self, _server: &ServerName<'static>) {
        self.with(|known| known.tls12 = None);
    }

    fn insert_tls13_ticket(&self, _server: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.with(|known| known.tls13 = Some(value));
    }

    fn take_tls13_ticket(&self, _server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.with(|known| known.tls13.take())
    }
}
