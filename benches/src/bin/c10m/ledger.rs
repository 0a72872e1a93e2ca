//! Whose memory it is: an allocator that keeps an account for the server and one for all else.

use std::{
    alloc::{GlobalAlloc, Layout},
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use mimalloc::MiMalloc;

/// Who asks for memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Owner {
    /// The simulated kernel, its clients, and this program.
    Simulation,
    Server,
}

thread_local! {
    static OWNER: Cell<Owner> = const { Cell::new(Owner::Simulation) };
}

/// What is allocated on behalf of each. Sums that may wrap: whoever frees what another has
/// allocated makes up for it.
static SERVER: AtomicUsize = AtomicUsize::new(0);
static SIMULATION: AtomicUsize = AtomicUsize::new(0);
/// The most that the server had since [`begin_peak`].
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Lets `act` allocate on behalf of `owner`.
pub(crate) fn on_behalf_of<T>(owner: Owner, act: impl FnOnce() -> T) -> T {
    let before = OWNER.replace(owner);
    let result = act();
    OWNER.set(before);
    result
}

/// Bytes that the server has allocated now.
pub(crate) fn server_bytes() -> usize {
    SERVER.load(Relaxed)
}

/// Bytes that everything else has allocated now.
pub(crate) fn simulation_bytes() -> usize {
    SIMULATION.load(Relaxed)
}

/// Forgets how much the server had before.
pub(crate) fn begin_peak() {
    PEAK.store(server_bytes(), Relaxed);
}

/// The most that the server had since [`begin_peak`].
pub(crate) fn peak_bytes() -> usize {
    PEAK.load(Relaxed)
}

/// The server's allocator, and the accounts.
pub(crate) struct Ledger;

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

// SAFETY: everything is passed on to `MiMalloc` as it came.
unsafe impl GlobalAlloc for Ledger {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's promises are those that `MiMalloc` asks for.
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
