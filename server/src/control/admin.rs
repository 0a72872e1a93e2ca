//! The admin listener: HTTP/1 for dashboards, metrics, health checks and publishers.

use std::{convert::Infallible, io, rc::Rc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    time::Instant,
};

use super::{
    routes::Routes,
    slots::{IDLE_TIMEOUT, Slot, Slots},
};
use crate::{Hosts, PublishToken, host};

/// Maximum number of connections.
pub(crate) const CONNECTIONS_MAX: usize = 64;

/// Maximum part of the process's descriptors that connections take: one of this number.
const DESCRIPTORS_DIVISOR: u64 = 8;

/// Maximum number of buffered bytes of a connection, and so of the head of a request.
pub(crate) const HEAD_BYTES_MAX: usize = 16 << 10;

/// Pause after an accept has failed for lack of descriptors or memory.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Minimum time between two log lines about failed accepts.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The socket and the settings of the admin listener.
#[derive(Debug)]
pub(crate) struct AdminListener {
    pub(crate) listener: std::net::TcpListener,
    /// The token required to publish. `None`: publishing is refused.
    pub(crate) publish_token: Option<PublishToken>,
    /// Maximum size of a published message in bytes.
    pub(crate) message_bytes_max: usize,
    /// The accepted values of `Host`.
    pub(crate) hosts: Hosts,
    /// Returns the number of lost log lines.
    pub(crate) log_lines_lost: fn() -> u64,
}

/// Accepts connections, and responds to their requests, for as long as the control plane runs.
pub(super) async fn serve(listener: TcpListener, routes: Routes) {
    let routes = Rc::new(routes);
    let connections_max = connections_max(host::descriptor_limit());
    let slots = Rc::new(Slots::new(connections_max));
    let mut failures = AcceptFailures::default();
    // So a new connection has some turns of the runtime to send a request before it could be evicted.
    let accepts_per_turn = (connections_max / 4).max(1);
    for accepts in 1_u64.. {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                failures.note(&error, Instant::now());
                // Frees a descriptor.
                let _ = slots.evict_longest_idle();
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        // Also limits the time for which the kernel keeps a response that the client does not read.
        let socket = socket2::SockRef::from(&stream);
        if let Err(error) = socket.set_tcp_user_timeout(Some(IDLE_TIMEOUT)) {
            tracing::debug!(%error, "cannot set TCP_USER_TIMEOUT of an admin connection");
        }
        let slot = slots.take().await;
        let routes = Rc::clone(&routes);
        tokio::task::spawn_local(async move { serve_connection(stream, &routes, &slot).await });
        if accepts.is_multiple_of(accepts_per_turn as u64) {
            // The runtime polls its sockets, and ends evicted connections.
            tokio::task::yield_now().await;
        }
    }
}

/// The maximum number of connections in a process with this descriptor limit.
fn connections_max(descriptor_limit: u64) -> usize {
    let part = usize::try_from(descriptor_limit / DESCRIPTORS_DIVISOR);
    part.unwrap_or(usize::MAX).clamp(1, CONNECTIONS_MAX)
}

/// Counts failed accepts, and logs them at most once per [`WARNING_INTERVAL`].
#[derive(Debug, Default)]
struct AcceptFailures {
    /// Failures since the last log line.
    count: u64,
    logged_at: Option<Instant>,
}

impl AcceptFailures {
    /// Counts a failure. Returns the number of failures in the log line, if it logs one.
    fn note(&mut self, error: &io::Error, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.logged_at.is_some_and(|at| now < at + WARNING_INTERVAL) {
            return None;
        }
        self.logged_at = Some(now);
        let count = std::mem::take(&mut self.count);
        tracing::warn!(%error, count, "the admin listener cannot accept connections");
        Some(count)
    }
}

/// Responds to the requests of a connection until it ends or its slot [expires](Slot::expired).
async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    routes: &Routes,
    slot: &Slot,
) {
    let requests = async {
        let service = service_fn(|request| async move {
            // One request per turn of the runtime, so that pipelined requests do not delay other connections.
            tokio::task::yield_now().await;
            let response = routes.respond(request, slot).await;
            slot.answered();
            Ok::<_, Infallible>(response)
        });
        let served = http1::Builder::new()
            // The slot has the deadline.
            .header_read_timeout(None)
            .max_buf_size(HEAD_BYTES_MAX)
            // A client that has sent FIN still gets its response.
            .half_close(true)
            .serve_connection(TokioIo::new(&mut stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "an admin connection has failed");
        }
        // The response may precede the end of the request. If the rest of the request were not read, the kernel
        // would reset the connection, and the client could lose the response.
        let _ = stream.shutdown().await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    };
    tokio::select! {
        biased;
        () = slot.expired() => {}
        () = requests => {}
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::{
        io::{AsyncReadExt, DuplexStream, duplex},
        time::{sleep, timeout},
    };

    use super::*;
    use crate::{Config, control::publish::Publishing, shard::Parts};

    const SECOND: Duration = Duration::from_secs(1);

    fn routes() -> Routes {
        let config = Config {
            shards: Some(1),
            ..Config::default()
        };
        let parts = Parts::of_server(&config, 100);
        let token = PublishToken::new("s3cret").unwrap();
        Routes {
            publisher: parts[0].publisher(),
            hosts: config.hosts.clone(),
            publishing: Some(Publishing::new(token, config.max_message_size)),
            log_lines_lost: || 0,
        }
    }

    /// Runs a connection with this client. Returns the duration of the connection, and the output of the client.
    async fn lasts<F: Future>(
        script: impl FnOnce(DuplexStream) -> F,
    ) -> (Duration, Option<F::Output>) {
        let (client, server) = duplex(8 << 10);
        let routes = routes();
        let slot = Rc::new(Slots::new(1)).take().await;
        let start = Instant::now();
        let (mut script, mut output) = (std::pin::pin!(script(client)), None);
        let mut connection = std::pin::pin!(serve_connection(server, &routes, &slot));
        loop {
            tokio::select! {
                () = &mut connection => break,
                done = &mut script, if output.is_none() => output = Some(done),
            }
        }
        (start.elapsed(), output)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_whole_request_head_is_closed_after_ten_seconds() {
        for sent in ["", "GET /metrics HTTP/1.1\r\nHost: a\r\n"] {
            let (lasted, _) = lasts(|mut client| async move {
                client.write_all(sent.as_bytes()).await.unwrap();
                pending::<()>().await;
            })
            .await;
            assert_eq!(lasted, IDLE_TIMEOUT, "{sent:?}");
        }
        let (lasted, _) = lasts(|mut client| async move {
            for byte in b"GET /metrics HTTP/1.1\r\nHost: a".iter().cycle() {
                sleep(SECOND).await;
                client.write_all(&[*byte]).await.unwrap();
            }
        })
        .await;
        assert_eq!(lasted, IDLE_TIMEOUT, "a byte a second");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_whose_body_is_incomplete_after_ten_seconds_gets_408() {
        let head = "POST /publish/a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cret\r\n\
                    Content-Length: 10000\r\n\r\nabc";
        for pause in [2 * SECOND, 1000 * SECOND] {
            let (lasted, answer) = lasts(|client| async move {
                let (mut read, mut write) = tokio::io::split(client);
                write.write_all(head.as_bytes()).await.unwrap();
                let trickle = async {
                    loop {
                        sleep(pause).await;
                        write.write_all(b"x").await.unwrap();
                    }
                };
                let mut answer = String::new();
                tokio::select! {
                    read = read.read_to_string(&mut answer) => read.unwrap(),
                    () = trickle => unreachable!(),
                };
                answer
            })
            .await;
            assert_eq!(lasted, Duration::from_secs(10));
            let answer = answer.expect("the connection ends after the response");
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
            assert!(answer.contains("connection: close\r\n"), "{answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_not_read_its_responses_is_closed_after_ten_seconds() {
        let (lasted, _) = lasts(|mut client| async move {
            loop {
                let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
                client.write_all(request).await.unwrap();
            }
        })
        .await;
        assert_eq!(lasted, IDLE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn the_body_of_a_refused_request_is_read_for_at_most_ten_seconds() {
        let head = "POST /publish/a HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n";
        let (lasted, sent) = lasts(|client| async move {
            let (mut read, mut write) = tokio::io::split(client);
            write.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            read.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
            let mut sent = 0;
            while write.write_all(&[0; 4096]).await.is_ok() {
                sent += 4096;
                sleep(SECOND).await;
            }
            sent
        })
        .await;
        assert_eq!(lasted, IDLE_TIMEOUT);
        assert!(sent.is_none_or(|sent| sent >= 9 * 4096), "{sent:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_a_request_within_each_idle_timeout_stays_open() {
        let (lasted, _) = lasts(|mut client| async move {
            for _ in 0..100 {
                sleep(IDLE_TIMEOUT - SECOND).await;
                let request = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
                client.write_all(request).await.unwrap();
                let mut answer = [0; 1024];
                let count = client.read(&mut answer).await.unwrap();
                assert!(answer[..count].ends_with(b"ok\n"));
            }
            drop(client);
        })
        .await;
        assert_eq!(lasted, 100 * (IDLE_TIMEOUT - SECOND));
    }

    #[tokio::test]
    async fn a_connection_gets_one_response_per_turn() {
        let (mut client, server) = duplex(1 << 20);
        let requests = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
        client.write_all(requests.as_bytes()).await.unwrap();
        let routes = routes();
        let slot = Rc::new(Slots::new(1)).take().await;
        let turns = async {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        };
        let connection = serve_connection(server, &routes, &slot);
        let ended = timeout(SECOND, async {
            tokio::select! {
                biased;
                () = connection => false,
                () = turns => true,
            }
        });
        assert_eq!(ended.await, Ok(true));
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.unwrap();
        let count = answers.matches("HTTP/1.1 200 OK").count();
        assert!((1..=11).contains(&count), "{count} responses in 10 turns");
    }

    #[test]
    fn failed_accepts_are_logged_once_a_minute_with_their_number() {
        let mut failures = AcceptFailures::default();
        let error = io::Error::from_raw_os_error(libc::EMFILE);
        let (start, mut logged) = (Instant::now(), Vec::new());
        for at in 0..=1200 {
            logged.extend(failures.note(&error, start + at * ACCEPT_RETRY_DELAY));
        }
        assert_eq!(logged, [1, 600, 600]);
    }

    #[test]
    fn connections_take_at_most_an_eighth_of_the_descriptors() {
        for (descriptors, connections) in [
            (0, 1),
            (16, 2),
            (511, 63),
            (512, CONNECTIONS_MAX),
            (u64::MAX, CONNECTIONS_MAX),
        ] {
            assert_eq!(connections_max(descriptors), connections);
        }
    }
}
