//! The request of the opening handshake.

use tidewheel_codec::handshake::ClientRequest;

use crate::fleet::target::Target;

/// Returns the request of a client (RFC 6455 4.1).
pub(super) fn request(
    target: &'static Target,
    client: u32,
    nonce: [u8; 16],
) -> ClientRequest<'static> {
    let mut request = ClientRequest::new(&*target.host, target.path_of(client), nonce);
    for (name, value) in &target.headers {
        request = request.with_header(&**name, &**value);
    }
    if let Some(protocol) = &target.protocol {
        request = request.with_protocol(&**protocol);
    }
    request
}

/// Returns the bytes of a request.
pub(crate) fn request_head(target: &'static Target) -> Vec<u8> {
    let mut bytes = Vec::new();
    request(target, 0, [7; 16]).write(&mut bytes);
    bytes
}
