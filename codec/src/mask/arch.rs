//! Masking of payloads above [`short::LEN_MAX`] bytes, with the widest vectors of the processor.
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

/// A function that writes `len` masked bytes from the first pointer to the second, and returns whether all
/// of them are then ASCII.
///
/// # Safety
///
/// `len` is more than [`short::LEN_MAX`]. `len` bytes are valid for reads at the first pointer and for
/// writes at the second. Both pointers are equal, or the memory does not overlap.
#[cfg(test)]
type Mask = unsafe fn(*const u8, *mut u8, usize, [u8; 4]) -> bool;

/// Masks more than [`short::LEN_MAX`] bytes, like [`super::mask_and_test`].
#[inline]
pub(super) fn mask(bytes: &mut [u8], key: [u8; 4]) -> bool {
    assert!(bytes.len() > short::LEN_MAX);
    let start = bytes.as_mut_ptr();
    // SAFETY: the length is asserted. Both pointers are that of `bytes`, which is borrowed mutably.
    unsafe { mask_widest(start, start, bytes.len(), key) }
}

/// Fills `to` with the masked bytes of `from`, which are more than [`short::LEN_MAX`].
#[inline]
pub(super) fn copy(from: &[u8], to: &mut UninitSlice, key: [u8; 4]) {
    assert!(from.len() > short::LEN_MAX && from.len() == to.len());
    // SAFETY: the lengths are asserted. `to` is borrowed mutably, so it does not overlap with `from`.
    unsafe {
        mask_widest(from.as_ptr(), to.as_mut_ptr(), from.len(), key);
    }
}

/// A masking function for at least `len_min` bytes.
#[cfg(test)]
pub(super) struct Backend {
    pub(super) name: &'static str,
    pub(super) len_min: usize,
    pub(super) mask: Mask,
}

/// Returns the backends that this machine supports.
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
    /// Masks `bytes` in place.
    pub(super) fn mask(&self, bytes: &mut [u8], key: [u8; 4]) -> bool {
        assert!(bytes.len() >= self.len_min);
        let start = bytes.as_mut_ptr();
        // SAFETY: the length is asserted. Both pointers are that of `bytes`, which is borrowed mutably.
        unsafe { (self.mask)(start, start, bytes.len(), key) }
    }

    /// Fills `to` with the masked bytes of `from`.
    pub(super) fn copy(&self, from: &[u8], to: &mut [u8], key: [u8; 4]) -> bool {
        assert!(from.len() >= self.len_min && from.len() == to.len());
        // SAFETY: the lengths are asserted. `to` is borrowed mutably, so it does not overlap with `from`.
        unsafe { (self.mask)(from.as_ptr(), to.as_mut_ptr(), from.len(), key) }
    }
}
