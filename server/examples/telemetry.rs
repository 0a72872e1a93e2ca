//! Telemetry for thousands of clients: a thread publishes sensor readings ten times a second. A client
//! subscribes to the sensors of its path, such as `/sensors/load` or `/sensors/*`.
//!
//! `cargo run --release -p tidewheel --features admin --example telemetry -- [ADDRESS [ADMIN]]` starts the server,
//! `cargo run --release -p loadgen -- idle --url ws://127.0.0.1:8080/sensors/load --connections 10000` opens 10,000
//! connections, and <http://127.0.0.1:9090/> shows them.
//!
//! A client that reads too slowly gets the latest value of each sensor when it reads again. The numbers of the
//! readings show that it has missed some. It does not delay other clients.

use std::time::Duration;

use tidewheel::{
    Conn, Error, Handler, Message, Publisher, Request, Response, Server, SlowConsumer, TopicRule,
    Verdict,
};

struct Telemetry;

impl Handler for Telemetry {
    /// The pattern of topics of the client.
    type State = String;

    fn upgrade(&mut self, request: &Request<'_>) -> Verdict<String> {
        match request.path().strip_prefix("/sensors/") {
            Some(_) => Verdict::accept(request.path()[1..].to_owned()),
            None => Verdict::reject(Response::text(404, "sensors are at /sensors/NAME")),
        }
    }

    fn open(&mut self, conn: &mut Conn<'_, Self>) {
        let (pattern, link) = conn.split();
        if let Err(error) = link.subscribe(pattern) {
            let _ = link.close(tidewheel::CloseCode::POLICY_VIOLATION, &error.to_string());
        }
    }

    fn message(&mut self, _: &mut Conn<'_, Self>, _: Message<'_>) {}
}

/// Load averages over 1, 5 and 15 minutes (proc_loadavg(5)).
const SENSORS: [&str; 3] = ["load", "load5", "load15"];

/// Publishes the load averages every 100 ms, until the program ends.
#[expect(
    clippy::disallowed_methods,
    reason = "the thread serves no connections"
)]
fn measure(publisher: &Publisher) {
    for reading in 1_u64.. {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        for (sensor, value) in SENSORS.iter().zip(load.split_whitespace()) {
            let message = format!(r#"{{"sensor":"{sensor}","reading":{reading},"value":{value}}}"#);
            if let Err(error) = publisher.publish(format!("sensors/{sensor}"), message.as_str()) {
                eprintln!("cannot publish {sensor}: {error}");
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let address = |at: usize, default| arguments.get(at).map_or(default, String::as_str);
    let server = Server::builder()
        .listen(address(0, "127.0.0.1:8080"))
        .admin(address(1, "127.0.0.1:9090"))
        .configure(|config| {
            config.topics = vec![TopicRule::new("sensors/>", SlowConsumer::Conflate)];
        })
        .raise_descriptor_limit(true)
        .bind()?;
    if let Some(admin) = server.admin_address() {
        println!("admin on {admin}");
    }
    let address = server.address();
    let running = server.start(|_shard| Ok(Telemetry))?;
    let publisher = running.publisher();
    std::thread::spawn(move || measure(&publisher));
    running.run_until_signal(|| println!("listening on {address}"))
}
