//! CPU time and memory of the generator and the server.

use std::{collections::BTreeMap, io, time::Duration};

use procfs::{
    CpuTime as CpuTimes, CurrentSI, KernelStats,
    process::{Process, Schedstat, all_processes},
};
use rustix::time::{ClockId, clock_gettime};

use crate::measure::clock::Moment;

/// CPU time of a process or thread.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct CpuTime {
    /// Time on a CPU.
    pub(crate) running: Duration,
    /// Time in the run queue: ready to run, while another thread used the CPU.
    pub(crate) waiting: Duration,
}

impl CpuTime {
    /// Reads the CPU time of the calling thread. It is exact.
    ///
    /// # Errors
    /// Those of proc(5).
    pub(crate) fn of_this_thread() -> io::Result<Self> {
        let running = clock_gettime(ClockId::ThreadCPUTime);
        let schedstat = Process::myself()
            .and_then(|process| process.task_main_thread()?.schedstat())
            .map_err(io::Error::other)?;
        Ok(Self {
            running: Duration::try_from(running).unwrap_or_default(),
            waiting: Duration::from_nanos(schedstat.run_delay),
        })
    }

    /// Returns the time since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            running: self.running.saturating_sub(earlier.running),
            waiting: self.waiting.saturating_sub(earlier.waiting),
        }
    }
}

/// CPU time of each thread of a process, by thread id.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProcessTime {
    threads: BTreeMap<i32, CpuTime>,
}

impl ProcessTime {
    /// Reads the CPU time of the current threads of process `pid`. The time of a running thread is
    /// as of the last tick of the kernel.
    ///
    /// # Errors
    /// Those of proc(5).
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        let tasks = Process::new(pid)
            .and_then(|process| process.tasks())
            .map_err(io::Error::other)?;
        let time = |schedstat: Schedstat| CpuTime {
            running: Duration::from_nanos(schedstat.sum_exec_runtime),
            waiting: Duration::from_nanos(schedstat.run_delay),
        };
        let threads = tasks
            .flatten()
            // A thread may have ended after the listing.
            .filter_map(|task| Some((task.tid, time(task.schedstat().ok()?))))
            .collect();
        Ok(Self { threads })
    }

    /// Returns the CPU time of all threads together.
    pub(crate) fn running(&self) -> Duration {
        self.threads.values().map(|time| time.running).sum()
    }

    /// Returns the CPU time since `earlier` of the thread that was busiest since then. Threads that
    /// wait for each other on one core are not counted twice.
    pub(crate) fn busiest_since(&self, earlier: &Self) -> CpuTime {
        self.threads
            .iter()
            .map(|(tid, time)| time.since(earlier.threads.get(tid).copied().unwrap_or_default()))
            .max_by_key(|time| time.running + time.waiting)
            .unwrap_or_default()
    }
}

/// Returns the resident memory of process `pid` in bytes.
///
/// # Errors
/// Those of proc(5).
pub(crate) fn resident_bytes(pid: i32) -> io::Result<u64> {
    let statm = Process::new(pid)
        .and_then(|process| process.statm())
        .map_err(io::Error::other)?;
    Ok(statm.resident * procfs::page_size())
}

/// Returns the number of descriptors that process `pid` holds.
///
/// # Errors
/// Those of proc(5).
pub(crate) fn descriptors(pid: i32) -> io::Result<u64> {
    let count = Process::new(pid).and_then(|process| process.fd_count());
    Ok(count.map_err(io::Error::other)? as u64)
}

/// Returns the id of the kernel thread that handles the softirqs of `core` if the kernel defers
/// them, as it does on a busy core. These include the receive work of sends over loopback. `None`
/// if the thread is not visible.
pub(crate) fn softirq_thread(core: usize) -> Option<i32> {
    let name = format!("ksoftirqd/{core}");
    all_processes().ok()?.flatten().find_map(|process| {
        let is_it = process.stat().ok()?.comm == name;
        is_it.then_some(process.pid)
    })
}

/// Time for which the host of a virtual machine used its cores (`steal` in proc_stat(5)). The
/// resolution is a tick of the kernel. Zero if the host does not report it.
#[derive(Clone, Copy, Debug, Default)]
struct Stolen {
    /// Sum over all cores.
    all: Duration,
    /// Time of the generator's core. The mean of all cores if the generator is not pinned.
    generator: Duration,
}

impl Stolen {
    fn now(core: Option<usize>) -> io::Result<Self> {
        let stats = KernelStats::current().map_err(io::Error::other)?;
        let stolen = |time: &CpuTimes| time.steal_duration().unwrap_or_default();
        let all = stolen(&stats.total);
        let cores = u32::try_from(stats.cpu_time.len()).unwrap_or(u32::MAX);
        Ok(Self {
            all,
            generator: match core.and_then(|core| stats.cpu_time.get(core)) {
                Some(time) => stolen(time),
                None => all / cores.max(1),
            },
        })
    }
}

/// Resource use of generator and server in a window of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// The length of the window.
    pub(crate) window: Duration,
    pub(crate) generator: CpuTime,
    /// The busiest thread of the server, if loadgen started it.
    pub(crate) server: Option<CpuTime>,
    /// CPU time of all threads of the server.
    pub(crate) server_cpu: Duration,
    /// CPU time of [`softirq_thread`] on the core of the server. The other fields do not contain
    /// it.
    pub(crate) softirqs: Option<Duration>,
    /// System calls of the server, if they are counted.
    pub(crate) syscalls: Option<u64>,
    /// Stolen time, summed over all cores of the machine. See [`Stolen`].
    pub(crate) stolen: Duration,
    /// Stolen time of the generator's core.
    pub(crate) generator_stolen: Duration,
}

impl Usage {
    /// Returns the share of the window in which the generator was busy.
    pub(crate) fn generator_busy(&self) -> f64 {
        busy_share(self.generator, self.window)
    }

    /// Returns the share of the window in which the server was busy: the larger of its busiest
    /// thread, and all threads together, which may share a core.
    pub(crate) fn server_busy(&self) -> Option<f64> {
        let all = self.server_cpu.as_secs_f64() / self.window.as_secs_f64().max(1e-9);
        let busiest = busy_share(self.server?, self.window);
        Some(busiest.max(all).min(1.0))
    }
}

/// Returns the share of `window` in which a thread was on a CPU or ready to run.
fn busy_share(time: CpuTime, window: Duration) -> f64 {
    let busy = time.running + time.waiting;
    (busy.as_secs_f64() / window.as_secs_f64().max(1e-9)).min(1.0)
}

/// Resource use at the start or the end of a window.
#[derive(Clone, Debug)]
pub(crate) struct UsageMark {
    at: Moment,
    generator: CpuTime,
    server: Option<ProcessTime>,
    softirqs: Option<Duration>,
    syscalls: Option<u64>,
    stolen: Stolen,
}

impl UsageMark {
    /// Reads the current use. `server` is the process id of the server, and `core` the one that the
    /// generator is pinned to.
    ///
    /// # Errors
    /// Those of proc(5).
    pub(crate) fn set(at: Moment, server: Option<i32>, core: Option<usize>) -> io::Result<Self> {
        Ok(Self {
            at,
            generator: CpuTime::of_this_thread()?,
            server: server.map(ProcessTime::of).transpose()?,
            softirqs: None,
            syscalls: None,
            stolen: Stolen::now(core)?,
        })
    }

    /// Adds the CPU time of kernel thread `id`. See [`softirq_thread`].
    ///
    /// # Errors
    /// Those of proc(5).
    pub(crate) fn with_softirqs(mut self, id: i32) -> io::Result<Self> {
        self.softirqs = Some(ProcessTime::of(id)?.running());
        Ok(self)
    }

    /// Adds the number of system calls that the server has made.
    pub(crate) const fn with_syscalls(mut self, count: u64) -> Self {
        self.syscalls = Some(count);
        self
    }

    /// Returns the use from this mark to `end`.
    pub(crate) fn until(&self, end: &Self) -> Usage {
        let running = |mark: &Self| mark.server.as_ref().map(ProcessTime::running);
        let running = |mark| running(mark).unwrap_or_default();
        Usage {
            window: end.at.since(self.at),
            generator: end.generator.since(self.generator),
            server_cpu: running(end).saturating_sub(running(self)),
            softirqs: end
                .softirqs
                .zip(self.softirqs)
                .map(|(end, start)| end.saturating_sub(start)),
            syscalls: end
                .syscalls
                .zip(self.syscalls)
                .map(|(end, start)| end - start),
            stolen: end.stolen.all.saturating_sub(self.stolen.all),
            generator_stolen: end.stolen.generator.saturating_sub(self.stolen.generator),
            server: end
                .server
                .as_ref()
                .zip(self.server.as_ref())
                .map(|(end, start)| end.busiest_since(start)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_of_work_counts_for_the_thread_and_the_process() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let start = CpuTime::of_this_thread().unwrap().running;
        let process = ProcessTime::of(pid).unwrap();
        while CpuTime::of_this_thread().unwrap().running < start + Duration::from_millis(30) {}
        let busiest = ProcessTime::of(pid).unwrap().busiest_since(&process);
        assert!(busiest.running >= Duration::from_millis(20), "{busiest:?}");
        assert!(resident_bytes(pid).unwrap() > 100_000);
    }

    #[test]
    fn the_busy_share_is_that_of_the_busiest_thread_or_of_all_threads() {
        let millis = Duration::from_millis;
        let usage = |each: u64, all: u64| Usage {
            window: millis(100),
            generator: CpuTime::default(),
            server: Some(CpuTime {
                running: millis(each),
                waiting: millis(5),
            }),
            server_cpu: millis(all),
            softirqs: None,
            syscalls: None,
            stolen: Duration::ZERO,
            generator_stolen: Duration::ZERO,
        };
        let percent = |usage: Usage| (usage.server_busy().unwrap() * 100.0).round();
        assert_eq!(percent(usage(10, 90)), 90.0);
        assert_eq!(percent(usage(60, 60)), 65.0);
        assert_eq!(percent(usage(90, 180)), 100.0);
    }

    #[test]
    fn the_busiest_thread_is_chosen_by_its_time_in_the_window() {
        let millis = Duration::from_millis;
        let process = |threads: &[(i32, u64, u64)]| ProcessTime {
            threads: threads
                .iter()
                .map(|&(tid, running, waiting)| {
                    let (running, waiting) = (millis(running), millis(waiting));
                    (tid, CpuTime { running, waiting })
                })
                .collect(),
        };
        let start = process(&[(1, 500, 0), (2, 10, 5)]);
        let end = process(&[(1, 510, 0), (2, 20, 20), (3, 7, 0)]);
        assert_eq!(end.running(), millis(537));
        let busiest = end.busiest_since(&start);
        assert_eq!((busiest.running, busiest.waiting), (millis(10), millis(15)));
    }
}
