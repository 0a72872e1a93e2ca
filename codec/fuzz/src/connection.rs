use tidewheel_codec::Role;

use super::side::config;
use super::trace::receive;

/// Asserts that a connection behaves the same for the same bytes in any pieces.
///
/// The first byte chooses role and extension. The second is the number of piece sizes that follow. The rest is
/// received.
pub fn connection(bytes: &[u8]) {
    let [options, count, rest @ ..] = bytes else {
        return;
    };
    let (sizes, received) = rest.split_at(rest.len().min(usize::from(count % 16)));
    let config = config(
        if options & 1 == 0 {
            Role::Server
        } else {
            Role::Client
        },
        options & 2 != 0,
        options & 4 != 0,
    );
    let whole = receive(&config, received, std::iter::once(received.len()));
    let pieces = receive(
        &config,
        received,
        sizes.iter().map(|&size| usize::from(size)),
    );
    assert_eq!(pieces, whole);
    let bytewise = receive(&config, received, std::iter::repeat_n(1, received.len()));
    assert_eq!(bytewise, whole);
}
