//! The harnesses of the fuzz targets. The tests of the codec run the same functions over the stored corpora
//! and over random bytes.

mod connection;
mod deflate;
mod frame;
mod handshake;
mod mask;
mod pair;
mod side;
mod trace;
mod utf8;

pub use connection::connection;
pub use deflate::deflate;
pub use frame::frame;
pub use handshake::handshake;
pub use mask::mask;
pub use pair::pair;
pub use utf8::utf8;

/// The name of a harness, which is also that of its corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All harnesses.
pub const TARGETS: [Target; 7] = [
    ("frame", frame),
    ("connection", connection),
    ("pair", pair),
    ("mask", mask),
    ("utf8", utf8),
    ("deflate", deflate),
    ("handshake", handshake),
];
