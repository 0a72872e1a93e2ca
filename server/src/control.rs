//! The control plane: the admin listener, on a thread of its own.
//!
//! It runs on a tokio-uring runtime. Messages between clients do not pass through it.

pub(crate) mod admin;
mod dashboard;
mod media;
mod metrics;
mod process;
pub(crate) mod publish;
mod response;
mod routes;
mod slots;

use std::{
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::sync::oneshot;

pub(crate) use self::admin::AdminListener;
use self::{publish::Publishing, routes::Routes};
use crate::{Error, Publisher, host, ring::RingError};

/// Number of submission queue entries of the control plane's ring. Its memory may count against
/// `RLIMIT_MEMLOCK`.
const SUBMISSION_ENTRIES: u32 = 32;

/// Number of descriptors that the runtime opens. They are reserved first, because it may panic without them.
const DESCRIPTORS: usize = 10;

/// The thread of the control plane. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    /// Dropped to end the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ControlPlane {
    /// Starts the thread, and waits until the admin listener accepts connections or has failed.
    pub(crate) fn start(
        admin: AdminListener,
        publisher: Publisher,
        release_memory: Option<fn()>,
    ) -> Result<Self, Error> {
        let AdminListener {
            listener,
            publish_token,
            message_bytes_max,
            hosts,
            log_lines_lost,
        } = admin;
        let routes = Routes {
            publisher,
            hosts,
            publishing: publish_token.map(|token| Publishing::new(token, message_bytes_max)),
            log_lines_lost,
        };
        let (stop, stopped) = oneshot::channel();
        let (start, started) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                let ready = || _ = start.send(Ok(()));
                if let Err(error) = run(listener, routes, release_memory, stopped, ready) {
                    let _ = start.send(Err(error));
                }
            })
            .map_err(Error::admin)?;
        let control = Self {
            stop: Some(stop),
            thread: Some(thread),
        };
        match started.recv() {
            Ok(started) => started.map(|()| control),
            Err(mpsc::RecvError) => unreachable!("the thread sends its start or its failure"),
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Cannot fail: the thread catches panics.
            let _ = thread.join();
        }
    }
}

/// Runs the control plane until `stopped` ends. Calls `ready` when the listener accepts connections.
fn run(
    listener: std::net::TcpListener,
    routes: Routes,
    release_memory: Option<fn()>,
    stopped: oneshot::Receiver<()>,
    ready: impl FnOnce(),
) -> Result<(), Error> {
    host::reserve_descriptors(DESCRIPTORS).map_err(Error::admin)?;
    let runtime = tokio_uring::Runtime::new(tokio_uring::builder().entries(SUBMISSION_ENTRIES))
        .map_err(|error| Error::AdminRing(RingError::setup(error)))?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(Error::admin)?;
        let publisher = routes.publisher.clone();
        tokio_uring::spawn(admin::serve(listener, routes));
        ready();
        tokio::select! {
            _ = stopped => {}
            () = release_after_bursts(&publisher, release_memory) => {}
        }
        Ok(())
    })
}

/// Returns freed memory to the system after bursts of published messages.
async fn release_after_bursts(publisher: &Publisher, release_memory: Option<fn()>) {
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    let mut bursts = 0;
    loop {
        every_second.tick().await;
        let ended = publisher.bursts();
        if std::mem::replace(&mut bursts, ended) != ended
            && let Some(release_memory) = release_memory
        {
            release_memory();
        }
    }
}
