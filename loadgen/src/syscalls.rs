//! How many system calls a server makes: a tracepoint of the kernel's, counted (perf_event_open(2)).

use std::{cell::RefCell, fs, io};

use perf_event::{Builder, Counter, events::Tracepoint};
use procfs::process::Process;

/// Where the tracepoint tells its number, with a file system for tracing of its own or without.
const TRACEPOINT_IDS: [&str; 2] = [
    "/sys/kernel/tracing/events/raw_syscalls/sys_enter/id",
    "/sys/kernel/debug/tracing/events/raw_syscalls/sys_enter/id",
];

/// Counts the system calls of a process, those of threads to come included.
#[derive(Debug)]
pub(crate) struct SyscallCounter {
    /// One for each thread that there was.
    counters: RefCell<Vec<Counter>>,
}

/// Why system calls cannot be counted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyscallError {
    /// The kernel has no such tracepoint, or shows it to nobody.
    #[error(
        "system calls cannot be counted: the tracepoint raw_syscalls/sys_enter: {0}; as root: \
         mount -t tracefs nodev /sys/kernel/tracing"
    )]
    Tracepoint(io::Error),
    /// It may not be counted.
    #[error("system calls cannot be counted: perf_event_open: {0}; run as root")]
    Counter(io::Error),
}

impl SyscallCounter {
    /// Counts those of process `pid` from now on. Each costs the process about as long as a short
    /// system call itself.
    ///
    /// # Errors
    /// Mostly, if this process is not privileged.
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

    /// How many there were so far.
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
    let text = ids.into_iter().reduce(Result::or).expect("there are two")?;
    let id = text.trim().parse().map_err(io::Error::other)?;
    Ok(Tracepoint::with_id(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_calls_are_counted_or_it_is_told_what_to_do() {
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
