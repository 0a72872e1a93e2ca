//! The program `tidewheel`; all of it is in [`tidewheel::cli`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidewheel::cli::main(std::env::args_os(), Some(release_memory))
}

/// Gives memory that the calling thread has freed back to the system.
fn release_memory() {
    // SAFETY: it is called like any function of C, and takes locks of its own.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
