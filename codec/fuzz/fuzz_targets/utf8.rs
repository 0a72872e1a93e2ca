#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidewheel_codec_fuzz::utf8(bytes));
