//! Giving a ring back to the kernel, and freeing only the memory that the kernel no longer uses.

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

/// Rounds of cancelling at most. The first one finds nearly everything; what a completion of the
/// first has brought about is found by the second.
const ROUNDS_MAX: u32 = 64;

/// Enters at most that run the work which the kernel has put off for this thread; each runs 20 pieces.
const TASK_WORK_RUNS_MAX: u32 = 1 << 20;

/// How long the kernel may take for operations that it cannot cancel at once, in seconds.
const CANCEL_TIMEOUT_SECONDS: i64 = 1;

/// `IORING_REGISTER_SYNC_CANCEL` (io_uring_register(2)).
const REGISTER_SYNC_CANCEL: libc::c_uint = 24;

/// `IORING_ASYNC_CANCEL_ANY`: whatever the operation.
const CANCEL_ANY: u32 = 4;

/// `struct io_uring_sync_cancel_reg` of the kernel's interface.
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
    /// Ends the listener, every operation and every connection.
    ///
    /// Others may hold the ring's waker, and with it a descriptor of the ring. It is replaced, so that
    /// the kernel lets go of the ring as soon as this value is gone.
    fn drop(&mut self) {
        self.stop_listening();
        let cancelled = self.cancel_all();
        if let Err(error) = self.waker.detach() {
            tracing::error!(%error, "the ring stays with whoever can wake it");
        }
        match cancelled {
            Ok(()) => {
                let submitter = self.ring.submitter();
                // They fail only if nothing is registered.
                let _ = submitter.unregister_files();
                let _ = submitter.unregister_buf_ring(BUFFER_GROUP);
                // SAFETY: no operation is left, and each is dropped once, here.
                unsafe {
                    ManuallyDrop::drop(&mut self.fills);
                    ManuallyDrop::drop(&mut self.parcels);
                    ManuallyDrop::drop(&mut self.accepted);
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
        // What is queued must not be submitted, and the ring may be out of order.
        self.check()?;
        for _ in 0..ROUNDS_MAX {
            self.run_task_work()?;
            let found = sync_cancel(self.ring.as_raw_fd())?;
            if found == 0 && !self.ring.submission().taskrun() {
                return Ok(());
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Lets the kernel complete what it has put off for this thread (`IORING_SETUP_DEFER_TASKRUN`).
    fn run_task_work(&mut self) -> io::Result<()> {
        for _ in 0..TASK_WORK_RUNS_MAX {
            self.discard_completions();
            if !self.ring.submission().taskrun() {
                return Ok(());
            }
            const GET_EVENTS: u32 = 1; // IORING_ENTER_GETEVENTS
            // SAFETY: nothing is pointed to, and nothing is submitted.
            let entered = unsafe { self.ring.submitter().enter::<()>(0, 0, GET_EVENTS, None) };
            match entered {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Drops completions that nobody waits for any more.
    fn discard_completions(&mut self) {
        for entry in self.ring.completion() {
            let is_install = match user_data::decode(entry.user_data()).0 {
                Purpose::InstallToShutdown | Purpose::InstallToQuery => true,
                Purpose::Op(_) => false,
            };
            if is_install && entry.result() >= 0 {
                // SAFETY: the kernel has made this descriptor for us, and nobody else knows it.
                drop(unsafe { OwnedFd::from_raw_fd(entry.result()) });
            }
        }
    }
}

/// Cancels what is under way on a ring; says how many operations were found.
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
    // SAFETY: the kernel reads the argument, which is of the type that it expects and lives until the
    // call has returned.
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
