//! Payloads of many bytes: the widest vectors of the processor.

use super::short;

#[cfg(target_arch = "x86_64")]
mod x86_64;

mod portable;

/// A way to mask more than [`short::LEN_MAX`] bytes.
#[cfg(test)]
type Backend = fn(&mut [u8], [u8; 4]) -> bool;

/// As [`super::mask_and_test`], for more than [`short::LEN_MAX`] bytes.
#[inline]
#[cfg(target_arch = "x86_64")]
pub(super) fn mask(bytes: &mut [u8], key: [u8; 4]) -> bool {
    x86_64::mask(bytes, key)
}

/// As [`super::mask_and_test`], for more than [`short::LEN_MAX`] bytes.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn mask(bytes: &mut [u8], key: [u8; 4]) -> bool {
    portable::mask(bytes, key)
}

/// Those that this machine can run, by name.
#[cfg(test)]
pub(super) fn backends() -> Vec<(&'static str, Backend)> {
    let mut backends: Vec<(&'static str, Backend)> = vec![("portable", portable::mask)];
    #[cfg(target_arch = "x86_64")]
    backends.extend(x86_64::backends());
    backends
}
