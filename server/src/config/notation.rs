//! Durations and sizes as text, in the notation of the command line.

use std::time::Duration;

/// A duration: `20ms`, `1.5s`, `2m`, `1h`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let micros = duration.as_micros() as f64;
    match duration.subsec_nanos() {
        0 if seconds == 0 => "0s".to_owned(),
        0 if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        0 if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ if seconds == 0 => format!("{}ms", micros / 1e3),
        _ => format!("{}s", micros / 1e6),
    }
}

/// The units of sizes and their bytes, the largest first.
pub(crate) const SIZE_UNITS: [(&str, usize); 3] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A size: `1MiB`, `1000`.
pub(crate) fn size(bytes: usize) -> String {
    let mut units = SIZE_UNITS.iter();
    match units.find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// A size in a sentence: `1MiB`, `1000 bytes`.
pub(crate) fn size_in_words(bytes: usize) -> String {
    match size(bytes) {
        size if size.ends_with('B') => size,
        size => format!("{size} bytes"),
    }
}
