use tidewheel_codec::mask::{key_at, mask as mask_with};

/// Asserts that masking is an exclusive or, at any alignment and phase of the key.
pub fn mask(bytes: &[u8]) {
    let [a, b, c, d, offset, position, payload @ ..] = bytes else {
        return;
    };
    let (key, position) = ([*a, *b, *c, *d], usize::from(*position));
    let offset = usize::from(*offset % 64).min(payload.len());
    let mut masked = payload.to_vec();
    mask_with(&mut masked[offset..], key_at(key, position));
    let expected: Vec<u8> = payload[offset..]
        .iter()
        .enumerate()
        .map(|(i, byte)| byte ^ key[(position + i) % 4])
        .collect();
    assert_eq!(masked[..offset], payload[..offset]);
    assert_eq!(masked[offset..], expected);
}
