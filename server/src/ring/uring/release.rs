//! Dropping a ring, and freeing its memory only when the kernel no longer uses it.

use std::{
    io,
    mem::ManuallyDrop,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use io_uring::types::Timespec;

use super::{
    BUFFER_GROUP, Uring,
    user_data::{self, Purpose},
};
use crate::ring::Ring;

/// Maximum number of cancellations of all operations. The second one finds the operations that completions
/// of the first have started.
const CANCEL_ROUNDS_MAX: u32 = 64;

/// Maximum number of enters for the kernel's deferred task work; each runs up to 20 items.
const TASK_WORK_RUNS_MAX: u32 = 1 << 20;

/// Maximum time in seconds that the kernel waits for operations that it cannot cancel at once.
const CANCEL_TIMEOUT_SECONDS: i64 = 1;

/// `IORING_REGISTER_SYNC_CANCEL` (io_uring_register(2)).
const REGISTER_SYNC_CANCEL: libc::c_uint = 24;

/// `IORING_ASYNC_CANCEL_ANY`: matches every operation.
const CANCEL_ANY: u32 = 4;

/// `struct io_uring_sync_cancel_reg` (include/uapi/linux/io_uring.h).
#[repr(C)]
struct SyncCancel {
    address: u64,
    descriptor: i32,
    flags: u32,
    timeout: Timespec,
    opcode: u8,
    padding: [u8; 7],
    reserved: [u64; 3],
}

const _: () = assert!(size_of::<SyncCancel>() == 64);

impl Drop for Uring {
    /// Stops the listener, cancels every operation and closes every connection.
    ///
    /// Clones of the ring's waker hold a descriptor of the ring. It is replaced, so that the kernel frees
    /// the ring as soon as this value is dropped.
    fn drop(&mut self) {
        self.stop_listening();
        let cancelled = self.cancel_all();
        if let Err(error) = self.waker.detach() {
            tracing::error!(%error, "the ring stays open until its last waker is dropped");
        }
        match cancelled {
            Ok(()) => {
                let submitter = self.ring.submitter();
                // Both fail only if nothing is registered.
                let _ = submitter.unregister_files();
                let _ = submitter.unregister_buf_ring(BUFFER_GROUP);
                // SAFETY: no operation is left, and each field is dropped only here.
                unsafe {
                    ManuallyDrop::drop(&mut self.fills);
                    ManuallyDrop::drop(&mut self.send_all_bytes);
                    ManuallyDrop::drop(&mut self.accepted_peers);
                    ManuallyDrop::drop(&mut self.entries);
                    ManuallyDrop::drop(&mut self.buffers);
                }
            }
            Err(error) => tracing::error!(
                %error,
                bytes = self.buffers.bytes(),
                "operations of a ring cannot be cancelled: the memory of its receive buffers is not freed, \
                 because the kernel may still write to it"
            ),
        }
    }
}

impl Uring {
    /// Cancels every operation, and waits until the last has completed.
    fn cancel_all(&mut self) -> io::Result<()> {
        // A failed ring must not submit its queued entries.
        self.check()?;
        for _ in 0..CANCEL_ROUNDS_MAX {
            self.finish_task_work()?;
            let found = sync_cancel(self.ring.as_raw_fd())?;
            if found == 0 && !self.ring.submission().taskrun() {
                return Ok(());
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Runs all deferred task work of the kernel (`IORING_SETUP_DEFER_TASKRUN`).
    fn finish_task_work(&mut self) -> io::Result<()> {
        for _ in 0..TASK_WORK_RUNS_MAX {
            self.discard_completions();
            if !self.ring.submission().taskrun() {
                return Ok(());
            }
            const GET_EVENTS: u32 = 1; // IORING_ENTER_GETEVENTS
            // SAFETY: the call passes no pointer, and submits nothing.
            let entered = unsafe { self.ring.submitter().enter::<()>(0, 0, GET_EVENTS, None) };
            match entered {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Drops all completions, and closes the descriptors that they installed.
    fn discard_completions(&mut self) {
        for entry in self.ring.completion() {
            let is_install = match user_data::decode(entry.user_data()).0 {
                Purpose::InstallToShutdown | Purpose::InstallToQuery => true,
                Purpose::Op(_) => false,
            };
            if is_install && entry.result() >= 0 {
                // SAFETY: the kernel has created this descriptor, and nothing else owns it.
                drop(unsafe { OwnedFd::from_raw_fd(entry.result()) });
            }
        }
    }
}

/// Cancels the operations under way on a ring; returns their number.
fn sync_cancel(ring: RawFd) -> io::Result<u32> {
    let argument = SyncCancel {
        address: 0,
        descriptor: -1,
        flags: CANCEL_ANY,
        timeout: Timespec::new().sec(CANCEL_TIMEOUT_SECONDS as u64),
        opcode: 0,
        padding: [0; 7],
        reserved: [0; 3],
    };
    // SAFETY: the argument has the type that the kernel expects, and lives until the call has returned.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring,
            REGISTER_SYNC_CANCEL,
            &raw const argument,
            1,
        )
    };
    match u32::try_from(result) {
        Ok(found) => Ok(found),
        Err(_) => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOENT) => Ok(0),
            error => Err(error),
        },
    }
}
