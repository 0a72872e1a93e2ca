//! Tidewheel.
fn main() {}
