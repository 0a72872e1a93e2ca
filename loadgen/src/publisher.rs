//! Publishes by the admin listener of a tidewheel.

use std::{
    net::SocketAddr,
    thread::{self, JoinHandle},
    time::Duration,
};

use ureq::Agent;

/// The topic of `tidewheel echo`.
const EVERYBODY: &str = "all";

/// A server that does not answer for so long is taken for dead.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Publishes to all connections.
#[derive(Debug)]
pub(crate) struct Publisher {
    agent: Agent,
    url: String,
    authorization: String,
}

/// A message that is being published.
#[derive(Debug)]
pub(crate) struct Publishing(JoinHandle<Result<(), PublishError>>);

/// Why a message is not published.
#[derive(Debug, thiserror::Error)]
#[error("the server does not publish, asked by POST {url}: {error}")]
pub(crate) struct PublishError {
    url: String,
    error: Box<ureq::Error>,
}

impl Publisher {
    /// Publishes by the admin listener at `address`, which knows `token`.
    pub(crate) fn new(address: SocketAddr, token: &str) -> Self {
        let agent = Agent::config_builder()
            .timeout_global(Some(ANSWER_TIMEOUT))
            .build()
            .new_agent();
        Self {
            agent,
            url: format!("http://{address}/publish/{EVERYBODY}"),
            authorization: format!("Bearer {token}"),
        }
    }

    /// Publishes a message, on another thread: this one is to read what arrives meanwhile.
    pub(crate) fn publish(&self, message: &[u8]) -> Publishing {
        let request = self.agent.post(&self.url);
        let request = request.header("Authorization", &self.authorization);
        let (url, message) = (self.url.clone(), message.to_vec());
        Publishing(thread::spawn(move || {
            let answer = request.send(&*message);
            answer.map(drop).map_err(|error| PublishError {
                url,
                error: Box::new(error),
            })
        }))
    }
}

impl Publishing {
    /// Waits for the server's answer.
    ///
    /// # Errors
    /// If it is not published.
    pub(crate) fn finish(self) -> Result<(), PublishError> {
        self.0.join().expect("a request does not panic")
    }
}
