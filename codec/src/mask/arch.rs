//! Payloads of many bytes: the widest vectors of the processor.
#![allow(unsafe_code)]

use bytes::buf::UninitSlice;

use super::short;

#[cfg(target_arch = "x86_64")]
mod x86_64;

mod portable;

#[cfg(not(target_arch = "x86_64"))]
use portable::mask as mask_widest;
#[cfg(target_arch = "x86_64")]
use x86_64::mask as mask_widest;

/// Masks so many bytes at the first place to the second one; whether all of them are ASCII then.
///
/// # Safety
///
/// There are more than [`short::LEN_MAX`] bytes. The first may be read and the second written; they
/// are the same, or do not overlap.
#[cfg(test)]
type Mask = unsafe fn(*const u8, *mut u8, usize, [u8; 4]) -> bool;

/// As [`super::mask_and_test`], for more than [`short::LEN_MAX`] bytes.
#[inline]
pub(super) fn mask(bytes: &mut [u8], key: [u8; 4]) -> bool {
    assert!(bytes.len() > short::LEN_MAX);
    let start = bytes.as_mut_ptr();
    // SAFETY: they are enough, and both places are one, which is borrowed mutably.
    unsafe { mask_widest(start, start, bytes.len(), key) }
}

/// Writes `from` to all of `to` and masks it, for more than [`short::LEN_MAX`] bytes.
#[inline]
pub(super) fn copy(from: &[u8], to: &mut UninitSlice, key: [u8; 4]) {
    assert!(from.len() > short::LEN_MAX && from.len() == to.len());
    // SAFETY: they are enough. The one place is borrowed and the other mutably, so they do not
    // overlap.
    unsafe {
        mask_widest(from.as_ptr(), to.as_mut_ptr(), from.len(), key);
    }
}

/// A way to mask, for so many bytes at least.
#[cfg(test)]
pub(super) struct Backend {
    pub(super) name: &'static str,
    pub(super) len_min: usize,
    pub(super) mask: Mask,
}

/// Those that this machine can run.
#[cfg(test)]
pub(super) fn backends() -> Vec<Backend> {
    let mut backends = vec![Backend {
        name: "portable",
        len_min: short::LEN_MAX + 1,
        mask: portable::mask,
    }];
    #[cfg(target_arch = "x86_64")]
    backends.extend(x86_64::backends());
    backends
}

#[cfg(test)]
impl Backend {
    /// Masks in place.
    pub(super) fn mask(&self, bytes: &mut [u8], key: [u8; 4]) -> bool {
        assert!(bytes.len() >= self.len_min);
        let start = bytes.as_mut_ptr();
        // SAFETY: as in `mask` above.
        unsafe { (self.mask)(start, start, bytes.len(), key) }
    }

    /// Masks what is copied.
    pub(super) fn copy(&self, from: &[u8], to: &mut [u8], key: [u8; 4]) -> bool {
        assert!(from.len() >= self.len_min && from.len() == to.len());
        // SAFETY: as in `copy` above.
        unsafe { (self.mask)(from.as_ptr(), to.as_mut_ptr(), from.len(), key) }
    }
}
