use tidewheel_codec::frame::FrameHeader;

/// Asserts that a parsed header encodes to the same bytes, and that its prefixes are incomplete.
pub fn frame(bytes: &[u8]) {
    let Ok(Some(header)) = FrameHeader::parse(bytes) else {
        return;
    };
    let mut encoded = Vec::new();
    header.encode(&mut encoded);
    assert_eq!(encoded, bytes[..header.size()]);
    for size in 0..header.size() {
        assert_eq!(FrameHeader::parse(&bytes[..size]), Ok(None));
    }
}
