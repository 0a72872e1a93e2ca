//! Creating the io_uring.

use std::io;

use io_uring::IoUring;

/// Sizes of a ring.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Setup {
    /// Submission queue entries. A full queue is submitted before the next [`Ring::enter`](super::Ring::enter).
    pub submissions: u32,
    /// Completion queue entries. The kernel allocates memory for completions that do not fit.
    pub completions: u32,
    /// Size of the direct descriptor table, at most `RLIMIT_NOFILE`.
    pub sockets: u32,
    /// Number of receive buffers, a power of two of at most 32768.
    pub buffers: u16,
    /// Size of each receive buffer in bytes.
    pub buffer_size: u32,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            submissions: 1024,
            completions: 8192,
            sockets: 1024,
            buffers: 64,
            buffer_size: 16 * 1024,
        }
    }
}

/// Creates the io_uring, without `IORING_SETUP_NO_SQARRAY` where the kernel does not know it.
pub(super) fn build(setup: &Setup) -> io::Result<IoUring> {
    let build = |no_array: bool| {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_clamp()
            .setup_submit_all()
            .setup_cqsize(setup.completions);
        if no_array {
            builder.setup_no_sqarray(); // Linux 6.6
        }
        builder.build(setup.submissions)
    };
    match build(true) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => build(false),
        result => result,
    }
}
