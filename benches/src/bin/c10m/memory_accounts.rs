//! An allocator that counts the bytes of the server apart from those of the simulation.

use std::{
    alloc::{GlobalAlloc, Layout},
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use mimalloc::MiMalloc;

/// Account of an allocation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Owner {
    /// The simulated kernel, its clients, and this program.
    Simulation,
    /// The server.
    Server,
}

thread_local! {
    static OWNER: Cell<Owner> = const { Cell::new(Owner::Simulation) };
}

/// Allocated bytes of each account. A sum may wrap while one account frees memory of the other.
static SERVER: AtomicUsize = AtomicUsize::new(0);
static SIMULATION: AtomicUsize = AtomicUsize::new(0);
/// Largest value of `SERVER` since [`begin_peak`].
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Counts all allocations of `act` for `owner`.
pub(crate) fn on_behalf_of<T>(owner: Owner, act: impl FnOnce() -> T) -> T {
    let before = OWNER.replace(owner);
    let result = act();
    OWNER.set(before);
    result
}

/// Returns the bytes that the server has allocated.
pub(crate) fn server_bytes() -> usize {
    SERVER.load(Relaxed)
}

/// Returns the bytes that the simulation has allocated.
pub(crate) fn simulation_bytes() -> usize {
    SIMULATION.load(Relaxed)
}

/// Restarts the measurement of the server's peak.
pub(crate) fn begin_peak() {
    PEAK.store(server_bytes(), Relaxed);
}

/// Returns the server's peak since [`begin_peak`], in bytes.
pub(crate) fn peak_bytes() -> usize {
    PEAK.load(Relaxed)
}

/// mimalloc, which the server uses, with the accounts.
pub(crate) struct AccountingAllocator;

fn add(size: usize) {
    match OWNER.get() {
        Owner::Server => {
            let now = SERVER.fetch_add(size, Relaxed).wrapping_add(size);
            if now > PEAK.load(Relaxed) {
                PEAK.store(now, Relaxed);
            }
        }
        Owner::Simulation => {
            SIMULATION.fetch_add(size, Relaxed);
        }
    }
}

fn subtract(size: usize) {
    let account = match OWNER.get() {
        Owner::Server => &SERVER,
        Owner::Simulation => &SIMULATION,
    };
    account.fetch_sub(size, Relaxed);
}

// SAFETY: all calls are passed to `MiMalloc` unchanged.
unsafe impl GlobalAlloc for AccountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is that of `MiMalloc`.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: as above.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        subtract(layout.size());
        // SAFETY: as above.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size);
        subtract(layout.size());
        // SAFETY: as above.
        unsafe { MiMalloc.realloc(pointer, layout, size) }
    }
}
