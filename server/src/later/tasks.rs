//! The tasks that an application starts for its connections: futures that run on the thread of the shard.
//!
//! A task runs on the [`LocalSet`] of the shard. Its output waits in a queue until the next turn of the shard, which
//! gives it to the connection. The tasks of a connection are dropped with it.

use std::{
    any::Any,
    cell::RefCell,
    collections::{HashMap, VecDeque},
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use tokio::task::{AbortHandle, LocalSet};

use crate::{
    Config, Response,
    call::Call,
    contain::{self, Panic},
};

/// A future of the application with the step that follows it.
pub(crate) type TaskFuture = Pin<Box<dyn Future<Output = Output>>>;

/// The output of a task.
pub(crate) enum Output {
    /// A closure that is called with the connection.
    Call(Call),
    /// A [`Verdict`](crate::Verdict) for the state of the handler.
    Verdict(Box<dyn Any>),
    Response(Response),
}

/// The output of a task of a connection, or its panic.
pub(crate) struct Finished {
    pub(crate) slot: u32,
    pub(crate) output: Result<Output, Panic>,
}

/// The tasks of a shard.
pub(crate) struct Tasks {
    local: Rc<LocalSet>,
    /// The tasks of each connection that has some.
    connections: HashMap<u32, ConnectionTasks>,
    finished: Rc<FinishedQueue>,
    /// Number of tasks.
    count: usize,
    per_connection_max: usize,
    per_shard_max: usize,
    /// The serial number of the last task. 0 before the first one.
    serial: u64,
}

/// The tasks of one connection.
#[derive(Default)]
struct ConnectionTasks {
    running: Vec<Running>,
    /// Tasks in order that wait until the task before has finished.
    waiting: VecDeque<TaskFuture>,
}

struct Running {
    serial: u64,
    is_ordered: bool,
    abort: AbortHandle,
}

impl ConnectionTasks {
    fn count(&self) -> usize {
        self.running.len() + self.waiting.len()
    }
}

/// The outputs of tasks that wait for the next turn.
#[derive(Default)]
pub(crate) struct FinishedQueue {
    tasks: RefCell<VecDeque<(u64, Finished)>>,
    waker: RefCell<Option<Waker>>,
}

impl FinishedQueue {
    fn push(&self, serial: u64, finished: Finished) {
        self.tasks.borrow_mut().push_back((serial, finished));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Returns whether an output waits.
    #[cfg(feature = "sim")]
    pub(crate) fn has_any(&self) -> bool {
        !self.tasks.borrow().is_empty()
    }

    /// Returns whether an output waits. Otherwise the next one wakes the task of `context`.
    pub(crate) fn poll_any(&self, context: &Context<'_>) -> Poll<()> {
        if self.tasks.borrow().is_empty() {
            self.waker.replace(Some(context.waker().clone()));
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl Tasks {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            local: Rc::default(),
            connections: HashMap::new(),
            finished: Rc::default(),
            count: 0,
            per_connection_max: config.max_tasks_per_connection as usize,
            per_shard_max: config.max_tasks as usize,
            serial: 0,
        }
    }

    /// The set on which the tasks run.
    pub(crate) fn local(&self) -> Rc<LocalSet> {
        Rc::clone(&self.local)
    }

    pub(crate) fn finished(&self) -> Rc<FinishedQueue> {
        Rc::clone(&self.finished)
    }

    /// Returns whether a task was ever started, so that the shard has to wait for tasks too.
    pub(crate) fn is_used(&self) -> bool {
        self.serial != 0
    }

    /// Number of tasks that are unfinished, or whose output waits.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Returns whether the shard has as many tasks as it may have.
    pub(crate) fn is_shard_full(&self) -> bool {
        self.count >= self.per_shard_max
    }

    /// Returns whether a connection has as many tasks as it may have, so that it is not read.
    #[inline]
    pub(crate) fn is_full(&self, slot: u32) -> bool {
        self.count != 0 && self.is_connection_full(slot)
    }

    fn is_connection_full(&self, slot: u32) -> bool {
        let tasks = self.connections.get(&slot);
        tasks.is_some_and(|it| it.count() >= self.per_connection_max || self.is_shard_full())
    }

    /// Starts a task of a connection.
    pub(crate) fn start(&mut self, slot: u32, task: TaskFuture) {
        self.count_one();
        self.run(slot, task, false);
    }

    /// Starts a task of a connection when all its tasks in order that were added before have finished.
    pub(crate) fn start_in_order(&mut self, slot: u32, task: TaskFuture) {
        self.count_one();
        let tasks = self.connections.entry(slot).or_default();
        match tasks.running.iter().any(|it| it.is_ordered) {
            true => tasks.waiting.push_back(task),
            false => self.run(slot, task, true),
        }
    }

    fn count_one(&mut self) {
        assert!(
            self.per_shard_max > 0,
            "Config::max_tasks is 0, so a handler cannot start a task"
        );
        self.count += 1;
    }

    fn run(&mut self, slot: u32, task: TaskFuture, is_ordered: bool) {
        self.serial += 1;
        let (serial, finished) = (self.serial, Rc::clone(&self.finished));
        let task = Contained { task: Some(task) };
        let handle = self.local.spawn_local(async move {
            let output = task.await;
            finished.push(serial, Finished { slot, output });
        });
        let tasks = self.connections.entry(slot).or_default();
        tasks.running.push(Running {
            serial,
            is_ordered,
            abort: handle.abort_handle(),
        });
    }

    /// Takes the output of the next task that has finished, and starts the task that follows it in order.
    pub(crate) fn next_finished(&mut self) -> Option<Finished> {
        loop {
            let (serial, finished) = self.finished.tasks.borrow_mut().pop_front()?;
            if self.end(finished.slot, serial) {
                return Some(finished);
            }
            // The connection has ended. The destructor of the output may panic.
            let _ = contain::catch(|| drop(finished));
        }
    }

    /// Removes a task that has finished. Returns whether it was still a task of the connection in its slot.
    fn end(&mut self, slot: u32, serial: u64) -> bool {
        let Some(tasks) = self.connections.get_mut(&slot) else {
            return false;
        };
        let Some(at) = tasks.running.iter().position(|it| it.serial == serial) else {
            return false;
        };
        self.count -= 1;
        let next = match tasks.running.swap_remove(at).is_ordered {
            true => tasks.waiting.pop_front(),
            false => None,
        };
        if tasks.count() == 0 && next.is_none() {
            self.connections.remove(&slot);
        }
        if let Some(next) = next {
            self.run(slot, next, true);
        }
        true
    }

    /// Drops the tasks of a connection that has ended.
    pub(crate) fn forget(&mut self, slot: u32) {
        if self.count == 0 {
            return;
        }
        let Some(tasks) = self.connections.remove(&slot) else {
            return;
        };
        self.count -= tasks.count();
        for task in &tasks.running {
            task.abort.abort();
        }
        // The destructors of futures may panic.
        let _ = contain::catch(|| drop(tasks));
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

/// A task whose panics are caught.
struct Contained {
    /// `None` after the task has finished or panicked.
    task: Option<TaskFuture>,
}

impl Future for Contained {
    type Output = Result<Output, Panic>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(task) = &mut self.task else {
            return Poll::Pending;
        };
        match contain::catch(|| task.as_mut().poll(context)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => {
                let dropped = contain::catch(|| drop(self.task.take()));
                Poll::Ready(dropped.map(|()| output))
            }
            Err(panic) => {
                let _ = contain::catch(|| drop(self.task.take()));
                Poll::Ready(Err(panic))
            }
        }
    }
}

impl Drop for Contained {
    /// Drops a task that has not finished. Its destructor may panic.
    fn drop(&mut self) {
        let _ = contain::catch(|| drop(self.task.take()));
    }
}
