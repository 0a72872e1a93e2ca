//! Publishes messages through the admin listener of a Tidewheel server.

use std::{
    net::SocketAddr,
    thread::{self, JoinHandle},
    time::Duration,
};

use ureq::Agent;

/// The topic that all connections of `tidewheel echo` subscribe to.
const ALL_CONNECTIONS_TOPIC: &str = "all";

/// Longest wait for an answer of the server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A client of the admin listener that publishes to all connections.
#[derive(Debug)]
pub(crate) struct Publisher {
    agent: Agent,
    url: String,
    authorization: String,
}

/// A publish request in progress.
#[derive(Debug)]
pub(crate) struct Publishing(JoinHandle<Result<(), PublishError>>);

/// A publish request that failed.
#[derive(Debug, thiserror::Error)]
#[error("the server did not publish a message: POST {url}: {error}")]
pub(crate) struct PublishError {
    url: String,
    error: Box<ureq::Error>,
}

impl Publisher {
    /// Makes a client of the admin listener at `address`. `token` is its bearer token.
    pub(crate) fn new(address: SocketAddr, token: &str) -> Self {
        let agent = Agent::config_builder()
            .timeout_global(Some(ANSWER_TIMEOUT))
            .build()
            .new_agent();
        Self {
            agent,
            url: format!("http://{address}/publish/{ALL_CONNECTIONS_TOPIC}"),
            authorization: format!("Bearer {token}"),
        }
    }

    /// Publishes a message on another thread, so that this thread can read deliveries meanwhile.
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
    /// Waits for the answer of the server.
    ///
    /// # Errors
    /// If the server did not publish the message.
    pub(crate) fn finish(self) -> Result<(), PublishError> {
        self.0.join().expect("a request does not panic")
    }
}
