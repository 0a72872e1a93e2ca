//! The program `tidewheel`, which runs [`tidewheel::cli::main`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidewheel::cli::main(std::env::args_os(), Some(release_memory))
}

/// Returns memory that the calling thread has freed to the system.
fn release_memory() {
    // SAFETY: the function has no preconditions, and is safe to call from any thread.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
