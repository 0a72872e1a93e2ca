use std::time::Duration;

use bytes::Bytes;

use crate::config::{Config, InvalidConfig};
use crate::deflate::{Agreement, Codec, InvalidAgreement};
use crate::disconnect::Traffic;
use crate::frame::{Opcode, encode_frame};
use crate::masking_key::MaskingKeys;
use crate::receiver::Pool;

/// The state that all connections of one thread share: limits and deadlines, the pool of assembly buffers,
/// the generator of masking keys, and the compressors.
#[derive(Debug)]
pub struct Endpoint {
    pub(crate) config: Config,
    pub(crate) pool: Pool,
    pub(crate) keys: MaskingKeys,
    /// `None` if permessage-deflate is off.
    pub(crate) codec: Option<Box<Codec>>,
    /// The traffic of all connections, including those that have ended.
    pub(crate) traffic: Traffic,
}

impl Endpoint {
    /// Creates an endpoint whose masking keys come from the kernel's random number generator.
    ///
    /// # Errors
    ///
    /// If a field of `config` is out of bounds.
    pub fn new(config: Config) -> Result<Self, InvalidConfig> {
        Self::with_keys(config, MaskingKeys::unpredictable())
    }

    /// Creates an endpoint whose masking keys depend on `seed` alone, for reproducible simulations and
    /// tests. RFC 6455 10.3 requires unpredictable keys elsewhere.
    ///
    /// # Errors
    ///
    /// If a field of `config` is out of bounds.
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

    /// Returns the configuration.
    #[inline]
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the traffic of all connections so far, including those that have ended.
    #[inline]
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Returns the work of compression so far, in bytes: the output of decompression, plus eight times the
    /// input of compression and decompression. A server can use the difference of two values to divide the
    /// work fairly among connections.
    #[inline]
    #[must_use]
    pub fn deflate_work(&self) -> u64 {
        self.codec.as_ref().map_or(0, |codec| codec.work_bytes())
    }

    /// Changes the close timeout. Connections that are already closing keep their deadline.
    pub const fn set_close_timeout(&mut self, close_timeout: Duration) {
        self.config.close_timeout = close_timeout;
    }

    /// Returns random bytes for the `Sec-WebSocket-Key` of one opening handshake (RFC 6455 4.1).
    pub fn handshake_nonce(&mut self) -> [u8; 16] {
        self.keys.take()
    }

    /// Server: accepts the first supported offer of permessage-deflate among `offers`, the values of the
    /// request's `Sec-WebSocket-Extensions`.
    ///
    /// The agreement's `Display` is the value for the response. Returns `None` without a supported offer,
    /// or if the extension is off.
    pub fn accept_deflate<'a>(
        &self,
        offers: impl IntoIterator<Item = &'a str>,
    ) -> Option<Agreement> {
        let codec = self.codec.as_ref()?;
        codec.settings().accept(offers, &codec.budget)
    }

    /// Client: returns the offer of permessage-deflate for the request's `Sec-WebSocket-Extensions`, or
    /// `None` if the extension is off.
    #[must_use]
    pub fn offer_deflate(&self) -> Option<String> {
        let codec = self.codec.as_ref()?;
        Some(codec.settings().offer(&codec.budget))
    }

    /// Client: returns the agreement after [`offer_deflate`](Self::offer_deflate), or `None` if the server
    /// declined. `accepted` are the values of the response's `Sec-WebSocket-Extensions`.
    ///
    /// # Errors
    ///
    /// If the response contradicts the offer. The client must fail the connection.
    pub fn confirm_deflate<'a>(
        &self,
        accepted: impl IntoIterator<Item = &'a str>,
    ) -> Result<Option<Agreement>, InvalidAgreement> {
        match &self.codec {
            Some(codec) => codec.settings().confirm(accepted, &codec.budget),
            None => Ok(None),
        }
    }

    /// Server: encodes a message as one compressed frame, for all connections that
    /// [share compression](crate::Connection::shares_compression). If compression does not shorten the
    /// message, the frame is uncompressed.
    pub fn encode_compressed(&mut self, opcode: Opcode, payload: &[u8]) -> Bytes {
        let compressed = self
            .codec
            .as_mut()
            .and_then(|codec| codec.encode_frame(opcode, payload));
        compressed.unwrap_or_else(|| encode_frame(opcode, payload))
    }

    /// Returns the bytes that are reserved for connections with context takeover.
    #[must_use]
    pub fn takeover_bytes(&self) -> usize {
        self.codec.as_ref().map_or(0, |codec| codec.budget.used())
    }
}
