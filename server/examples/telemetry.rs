//! Telemetry to very many clients: a thread measures, and publishes ten times a second; each client
//! hears the sensors that its path names, as in `/sensors/load` or `/sensors/*`.
//!
//! `cargo run --release --example telemetry`, and then, with ten thousand clients that hold a
//! connection each, `cargo run --release -p loadgen -- idle --url ws://127.0.0.1:8080/sensors/load
//! --connections 10000`.
//!
//! A client that cannot keep up gets the latest value of each sensor when it reads on, and nobody
//! else notices.

use std::time::Duration;

use tidewheel::{
    Config, Conn, Error, Handler, Message, Rejection, Remote, Request, Server, SlowConsumer,
    TopicRule, Verdict,
};

struct Telemetry;

impl Handler for Telemetry {
    /// What the client has asked for.
    type State = String;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<String> {
        match request.path().strip_prefix("/sensors/") {
            Some(_) => Verdict::accept(request.path()[1..].to_owned()),
            None => Verdict::reject(Rejection::new(404, "sensors are at /sensors/NAME")),
        }
    }

    fn open(&mut self, conn: &mut Conn<'_, String>) {
        let pattern = conn.state().clone();
        if let Err(error) = conn.subscribe(&pattern) {
            let _ = conn.close(tidewheel::CloseCode::POLICY_VIOLATION, &error.to_string());
        }
    }

    fn message(&mut self, _: &mut Conn<'_, String>, _: Message<'_>) {}
}

/// Publishes what the kernel says of its load, until the program ends.
#[expect(
    clippy::disallowed_methods,
    reason = "a thread of its own, at a pace of its own"
)]
fn measure(remote: &Remote) {
    loop {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let mut values = load.split_whitespace();
        for sensor in ["load", "load5", "load15"] {
            let value = values.next().unwrap_or("0");
            if let Err(error) = remote.publish(&format!("sensors/{sensor}"), value) {
                eprintln!("{sensor} is not published: {error}");
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn main() -> Result<(), Error> {
    let config = Config {
        topics: vec![TopicRule {
            pattern: "sensors/>".to_owned(),
            slow_consumer: SlowConsumer::Conflate,
        }],
        ..Config::default()
    };
    let running = Server::bind("127.0.0.1:8080", config)?.start(|_shard| Telemetry)?;
    let remote = running.remote();
    std::thread::spawn(move || measure(&remote));
    running.until_signal()
}
