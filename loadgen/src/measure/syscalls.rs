//! Counts the system calls of a server with a kernel tracepoint (perf_event_open(2)).

use std::{cell::RefCell, fs, io};

use perf_event::{Builder, Counter, events::Tracepoint};
use procfs::process::Process;

/// Files with the id of the tracepoint: on a separate tracing file system, or under debugfs.
const TRACEPOINT_IDS: [&str; 2] = [
    "/sys/kernel/tracing/events/raw_syscalls/sys_enter/id",
    "/sys/kernel/debug/tracing/events/raw_syscalls/sys_enter/id",
];

/// Counts the system calls of a process, including those of threads that start later.
#[derive(Debug)]
pub(crate) struct SyscallCounter {
    /// One counter for each thread that existed at the start.
    counters: RefCell<Vec<Counter>>,
}

/// An error that prevents the counting of system calls.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyscallError {
    /// The tracepoint does not exist, or this process cannot read its id.
    #[error(
        "system calls cannot be counted: tracepoint raw_syscalls/sys_enter: {0}; run as root: \
         mount -t tracefs nodev /sys/kernel/tracing"
    )]
    Tracepoint(io::Error),
    /// This process is not allowed to count it.
    #[error("system calls cannot be counted: perf_event_open: {0}; run as root")]
    Counter(io::Error),
}

impl SyscallCounter {
    /// Starts to count the system calls of process `pid`. Each count takes the process about as
    /// long as a short system call.
    ///
    /// # Errors
    /// Most often, if this process is not privileged.
    pub(crate) fn start(pid: i32) -> Result<Self, SyscallError> {
        let tracepoint = tracepoint().map_err(SyscallError::Tracepoint)?;
        let counter = |thread| {
            let mut counter = Builder::new(tracepoint)
                .observe_pid(thread)
                .any_cpu()
                .include_kernel()
                .inherit(true)
                .build()?;
            counter.enable()?;
            Ok(counter)
        };
        let threads = Process::new(pid)
            .and_then(|process| process.tasks())
            .map_err(|error| SyscallError::Counter(io::Error::other(error)))?;
        let counters = threads.flatten().map(|thread| counter(thread.tid));
        let counters = counters.collect::<io::Result<_>>();
        Ok(Self {
            counters: RefCell::new(counters.map_err(SyscallError::Counter)?),
        })
    }

    /// Returns the number of system calls so far.
    ///
    /// # Errors
    /// Those of read(2).
    pub(crate) fn read(&self) -> io::Result<u64> {
        self.counters
            .borrow_mut()
            .iter_mut()
            .map(Counter::read)
            .sum()
    }
}

fn tracepoint() -> io::Result<Tracepoint> {
    let ids = TRACEPOINT_IDS.map(fs::read_to_string);
    let text = ids
        .into_iter()
        .reduce(Result::or)
        .expect("TRACEPOINT_IDS is not empty")?;
    let id = text.trim().parse().map_err(io::Error::other)?;
    Ok(Tracepoint::with_id(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_calls_are_counted_or_the_error_names_root() {
        let pid = i32::try_from(std::process::id()).unwrap();
        match SyscallCounter::start(pid) {
            Ok(counter) => {
                let before = counter.read().unwrap();
                for _ in 0..1000 {
                    let _ = rustix::process::getppid();
                }
                let count = counter.read().unwrap() - before;
                assert!(count >= 1000, "{count}");
            }
            Err(error) => assert!(error.to_string().contains("root"), "{error}"),
        }
    }
}
