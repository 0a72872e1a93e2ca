//! R24: a panic in a callback ends its connection.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use tidewheel::{Cause, CloseCode, ring::sim::Simulation};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::{
    bench::{Bench, SECOND, config, each_seed},
    echo::PANIC,
};

/// Collects the error events of a log.
#[derive(Clone, Default)]
struct Errors(Arc<Mutex<Vec<String>>>);

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn event(&self, event: &Event<'_>) {
        struct Fields(String);
        impl Visit for Fields {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                self.0 += &format!("{}={value:?} ", field.name());
            }
        }
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[test]
fn r24_a_panic_is_logged_with_message_and_location_and_ends_its_connection_after_earlier_echoes() {
    each_seed(20, |seed| {
        let errors = Errors::default();
        tracing::subscriber::with_default(errors.clone(), || {
            let simulation = Simulation {
                seed,
                ..Simulation::default()
            };
            let mut bench = Bench::new(simulation, &config());
            let clients: Vec<usize> = (0..10).map(|_| bench.connect()).collect();
            bench.run_for(SECOND / 2);
            for &client in &clients {
                bench.send(client, b"before");
            }
            bench.send(clients[3], PANIC.as_bytes());
            bench.send(clients[3], b"after the panic");
            bench.run_for(SECOND / 10);
            let end = bench.clients[3]
                .end
                .clone()
                .expect("the connection has ended");
            let close = end.received.expect("the server sends Close");
            assert_eq!(close.code, CloseCode::INTERNAL_ERROR, "seed {seed}");
            assert_eq!(bench.clients[3].echoes, [b"before"], "seed {seed}");
            bench.run_for(SECOND);
            for &client in clients.iter().filter(|client| **client != 3) {
                assert!(bench.is_open(client), "seed {seed}");
                bench.send(client, b"after");
            }
            bench.run_for(SECOND / 2);
            for &client in clients.iter().filter(|client| **client != 3) {
                let expected = [b"before".to_vec(), b"after".to_vec()];
                assert_eq!(bench.clients[client].echoes, expected, "seed {seed}");
            }
            assert_eq!(bench.shard.connections(), 9, "seed {seed}");
            let record = bench.record.borrow();
            assert_eq!(record.ends.len(), 1, "seed {seed}: close is called once");
            assert_eq!(record.ends[0].2.cause, Cause::HandlerPanic);
        });
        let errors = errors.0.lock().unwrap();
        assert_eq!(errors.len(), 1, "{errors:?}");
        for part in [
            "callback=\"message\"",
            "location=\"server/tests/simulation/echo.rs:",
            "a message requests a panic",
        ] {
            assert!(
                errors[0].contains(part),
                "{part} is missing in {}",
                errors[0]
            );
        }
    });
}
