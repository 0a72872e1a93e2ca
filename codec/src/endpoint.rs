use std::time::Duration;

use bytes::Bytes;

use crate::config::{Config, InvalidConfig};
use crate::deflate::{Agreement, Codec, InvalidAgreement};
use crate::disconnect::Traffic;
use crate::frame::{Opcode, encode_frame};
use crate::masking_key::MaskingKeys;
use crate::receiver::Pool;

/// What all connections of one thread share: limits and deadlines, the pool of assembly buffers,
/// the generator of masking keys, and the compressor.
#[derive(Debug)]
pub struct Endpoint {
    pub(crate) config: Config,
    pub(crate) pool: Pool,
    pub(crate) keys: MaskingKeys,
    /// None if permessage-deflate is off.
    pub(crate) codec: Option<Box<Codec>>,
    /// Of all connections, those that have ended included.
    pub(crate) traffic: Traffic,
}

impl Endpoint {
    /// An endpoint whose masking keys come from the kernel's random generator.
    ///
    /// # Errors
    ///
    /// When no connection could work with `config`.
    pub fn new(config: Config) -> Result<Self, InvalidConfig> {
        Self::with_keys(config, MaskingKeys::unpredictable())
    }

    /// An endpoint whose masking keys follow from `seed`: for simulations and tests, where a run
    /// must be the same again. RFC 6455 10.3 forbids predictable keys elsewhere.
    ///
    /// # Errors
    ///
    /// When no connection could work with `config`.
    pub fn with_seed(config: Config, seed: u64) -> Result<Self, InvalidConfig> {
        Self::with_keys(config, MaskingKeys::with_seed(seed))
    }

    fn with_keys(config: Config, keys: MaskingKeys) -> Result<Self, InvalidConfig> {
        config.validate()?;
        let pool = Pool::new(config.max_pooled_bytes);
        let codec = config
            .deflate
            .as_ref()
            .map(|deflate| Box::new(Codec::new(deflate)));
        Ok(Self {
            config,
            pool,
            keys,
            codec,
            traffic: Traffic::default(),
        })
    }

    /// The configuration.
    #[inline]
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Messages that went both ways so far, of all connections that there were.
    #[inline]
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// The work of compression so far, in bytes: those that were decompressed, and eight times those that
    /// were read for it, or compressed. By it, a server can give every connection its share.
    #[inline]
    #[must_use]
    pub fn deflate_work(&self) -> u64 {
        self.codec.as_ref().map_or(0, |codec| codec.work())
    }

    /// Changes the close timeout of what is closed from now on.
    pub const fn set_close_timeout(&mut self, close_timeout: Duration) {
        self.config.close_timeout = close_timeout;
    }

    /// Random bytes for the `Sec-WebSocket-Key` of one opening handshake (RFC 6455 4.1).
    pub fn handshake_nonce(&mut self) -> [u8; 16] {
        self.keys.take()
    }
    /// Server: agrees to the first possible offer of permessage-deflate among the values of the
    /// request's `Sec-WebSocket-Extensions`. Displayed, the agreement is the response's.
    ///
    /// `None` if there is none or the extension is off.
    pub fn accept_deflate<'a>(
        &self,
        offers: impl IntoIterator<Item = &'a str>,
    ) -> Option<Agreement> {
        let codec = self.codec.as_ref()?;
        codec.settings().accept(offers, &codec.budget)
    }

    /// Client: the offer of permessage-deflate for the request's `Sec-WebSocket-Extensions`; `None`
    /// if the extension is off.
    #[must_use]
    pub fn offer_deflate(&self) -> Option<String> {
        let codec = self.codec.as_ref()?;
        Some(codec.settings().offer(&codec.budget))
    }

    /// Client: what the server made of [`offer_deflate`](Self::offer_deflate), by the values of the
    /// response's `Sec-WebSocket-Extensions`; `None` if it declined.
    ///
    /// # Errors
    ///
    /// When the response does not fit the offer: the client must fail the connection.
    pub fn confirm_deflate<'a>(
        &self,
        accepted: impl IntoIterator<Item = &'a str>,
    ) -> Result<Option<Agreement>, InvalidAgreement> {
        match &self.codec {
            Some(codec) => codec.settings().confirm(accepted, &codec.budget),
            None => Ok(None),
        }
    }

    /// Encodes one message of a server's as one compressed frame, for all connections that
    /// [share compression](crate::Connection::shares_compression); as one plain frame if it is no
    /// longer then.
    pub fn encode_compressed(&mut self, opcode: Opcode, payload: &[u8]) -> Bytes {
        let compressed = self
            .codec
            .as_mut()
            .and_then(|codec| codec.encode_frame(opcode, payload));
        compressed.unwrap_or_else(|| encode_frame(opcode, payload))
    }

    /// Bytes that are reserved for the compressors of connections with context takeover.
    #[must_use]
    pub fn takeover_bytes(&self) -> usize {
        self.codec.as_ref().map_or(0, |codec| codec.budget.used())
    }
}
