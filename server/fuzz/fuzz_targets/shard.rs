#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: tidewheel_fuzz::ignore_requested_panics(),
    |bytes: &[u8]| {
        let _ = tidewheel_fuzz::shard(bytes);
    }
);
