use tidewheel_codec::deflate::Deflate;
use tidewheel_codec::{Cause, CloseCode, Config, Connection, Disconnect, Endpoint, Role, Time};

/// Largest message in bytes, which a fuzzer can exceed.
pub(super) const MESSAGE_SIZE_MAX: usize = 4096;

/// One end of a connection.
pub(super) struct Side {
    pub(super) endpoint: Endpoint,
    pub(super) connection: Connection,
    pub(super) out: Vec<u8>,
    pub(super) sent: Vec<Vec<u8>>,
    pub(super) received: Vec<Vec<u8>>,
    pub(super) disconnect: Option<Disconnect>,
}

impl Side {
    pub(super) fn new(config: Config) -> Self {
        Self {
            endpoint: Endpoint::with_seed(config, 7).expect("the configuration is valid"),
            connection: Connection::new(Time::from_millis(0), 0),
            out: Vec::new(),
            sent: Vec::new(),
            received: Vec::new(),
            disconnect: None,
        }
    }

    pub(super) fn send_text(&mut self, size: usize) {
        let text: String = "tide κόσμε ".chars().cycle().take(size).collect();
        let sent = self
            .connection
            .send_text(&mut self.endpoint, &text, &mut self.out);
        assert_eq!(sent.is_ok(), self.connection.is_open());
        if sent.is_ok() {
            self.sent.push(text.into_bytes());
        }
    }

    pub(super) fn send_binary(&mut self, size: usize) {
        let bytes: Vec<u8> = (0..size).map(|i| (i * i % 251) as u8).collect();
        let sent = self
            .connection
            .send_binary(&mut self.endpoint, &bytes, &mut self.out);
        assert_eq!(sent.is_ok(), self.connection.is_open());
        if sent.is_ok() {
            self.sent.push(bytes);
        }
    }

    pub(super) fn close(&mut self, now: Time) {
        let Self {
            connection,
            endpoint,
            out,
            ..
        } = self;
        connection
            .start_closing_handshake(
                endpoint,
                CloseCode::NORMAL_CLOSURE,
                "bye",
                Cause::LocalClose,
                out,
                now,
            )
            .expect("the code may be sent and the reason is short");
        self.take_disconnect();
    }

    /// Takes the report of the end.
    pub(super) fn take_disconnect(&mut self) {
        if let Some(disconnect) = self.connection.poll_disconnect() {
            assert!(
                !matches!(disconnect.cause, Cause::ProtocolError(_) | Cause::TooBig),
                "{disconnect:?}"
            );
            assert!(
                self.disconnect.replace(disconnect).is_none(),
                "a connection ends once"
            );
        }
    }
}

/// Returns a connection with the terms to which two endpoints like this one agree.
pub(super) fn connect(endpoint: &Endpoint) -> Connection {
    let connection = Connection::new(Time::from_millis(0), 0);
    let Some(offer) = endpoint.offer_deflate() else {
        return connection;
    };
    let accepted = offer.replace("; client_max_window_bits", "");
    let agreement = match endpoint.config().role {
        Role::Server => endpoint.accept_deflate([offer.as_str()]),
        Role::Client => endpoint
            .confirm_deflate([accepted.as_str()])
            .expect("the response matches the offer"),
    };
    connection.with_deflate(agreement.expect("an endpoint agrees with itself"))
}

pub(super) fn config(role: Role, has_deflate: bool, context_takeover: bool) -> Config {
    let mut config = Config::new(role);
    config.max_message_size = MESSAGE_SIZE_MAX;
    config.max_fragments = 50;
    config.deflate = has_deflate.then(|| {
        let mut deflate = Deflate::default();
        deflate.threshold = 0;
        deflate.context_takeover = context_takeover;
        deflate
    });
    config
}
