//! The program `tidewheel`; all of it is in [`tidewheel::cli`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidewheel::cli::main(std::env::args_os())
}
