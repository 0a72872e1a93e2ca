use crate::config::{Config, InvalidConfig};
use crate::masking_key::MaskingKeys;
use crate::receiver::Pool;

/// What all connections of one thread share: limits and deadlines, the pool of assembly buffers,
/// and the generator of masking keys.
#[derive(Debug)]
pub struct Endpoint {
    pub(crate) config: Config,
    pub(crate) pool: Pool,
    pub(crate) keys: MaskingKeys,
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
        Ok(Self { config, pool, keys })
    }

    /// The configuration.
    #[inline]
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Random bytes for the `Sec-WebSocket-Key` of one opening handshake (RFC 6455 4.1).
    pub fn handshake_nonce(&mut self) -> [u8; 16] {
        self.keys.take()
    }
}
