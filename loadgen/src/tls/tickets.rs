//! TLS sessions that can be resumed. Each client has its own, like separate browsers.

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

/// The session store of all clients.
///
/// rustls identifies an entry by the server's name only. So [`set_client`](Self::set_client) has to
/// be called before each call of rustls. All calls are on the fleet's thread.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    client: AtomicU32,
    sessions: Mutex<HashMap<u32, Sessions>>,
}

/// Session data of one client.
#[derive(Debug, Default)]
struct Sessions {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    /// The newest ticket. Each is used once (RFC 8446 C.4).
    tls13: Option<Tls13ClientSessionValue>,
}

impl Tickets {
    /// Sets the client whose entry the following calls read and write.
    pub(super) fn set_client(&self, client: u32) {
        self.client.store(client, Ordering::Relaxed);
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<u32, Sessions>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `access` with the entry of the current client.
    fn with<T>(&self, access: impl FnOnce(&mut Sessions) -> T) -> T {
        let client = self.client.load(Ordering::Relaxed);
        access(self.sessions().entry(client).or_default())
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _server: ServerName<'static>, group: NamedGroup) {
        self.with(|entry| entry.group = Some(group));
    }

    fn kx_hint(&self, _server: &ServerName<'_>) -> Option<NamedGroup> {
        self.with(|entry| entry.group)
    }

    fn set_tls12_session(&self, _server: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.with(|entry| entry.tls12 = Some(value));
    }

    fn tls12_session(&self, _server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.with(|entry| entry.tls12.clone())
    }

    fn remove_tls12_session(&self, _server: &ServerName<'static>) {
        self.with(|entry| entry.tls12 = None);
    }

    fn insert_tls13_ticket(&self, _server: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.with(|entry| entry.tls13 = Some(value));
    }

    fn take_tls13_ticket(&self, _server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.with(|entry| entry.tls13.take())
    }
}
