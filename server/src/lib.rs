//! Tidewheel.
#![deny(unsafe_code)]
#[allow(unsafe_code)]
pub mod ring;
