//! The tasks that an application starts for its connections: futures that run on the thread of the shard.
//!
//! A task runs on the [`LocalSet`] of the shard. Its output waits in a queue until the next turn of the shard, which
//! gives it to the connection. When a connection ends, its tasks may finish until a deadline, and their outputs are
//! dropped. Only the task that answers a request is dropped with its connection.

use std::{
    any::Any,
    cell::RefCell,
    collections::{BTreeSet, VecDeque},
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use slab::Slab;
use tidewheel_codec::Time;
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

/// The output of a task, or its panic.
pub(crate) struct Finished {
    /// The slot of the connection. `None` if the connection has ended.
    pub(crate) slot: Option<u32>,
    pub(crate) output: Result<Output, Panic>,
}

/// The tasks of a shard.
pub(crate) struct Tasks {
    local: Rc<LocalSet>,
    /// The tasks of each connection that has some, or has ended and had some.
    groups: Slab<Group>,
    /// The group of each slot, or [`NIL`], up to the highest slot whose connection has ever had tasks.
    of_slot: Vec<u32>,
    /// The groups of connections that have ended, with the time at which what is left of each is dropped; the first
    /// one first.
    ended: BTreeSet<(Time, u32)>,
    finished: Rc<FinishedQueue>,
    /// Number of tasks.
    count: usize,
    per_connection_max: usize,
    per_shard_max: usize,
    /// The serial number of the last task. 0 before the first one.
    serial: u64,
}

/// The tasks of one connection.
struct Group {
    purpose: Purpose,
    owner: Owner,
    running: Vec<Running>,
    /// Tasks in order that wait until the task before has finished.
    waiting: VecDeque<Contained>,
}

/// No group.
const NIL: u32 = u32::MAX;

/// The purpose of the tasks of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Purpose {
    /// To answer the request. Without the client, nobody needs the answer.
    Answer,
    /// Work that callbacks have started.
    Work,
}

/// The connection of a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Owner {
    /// The slot of the connection.
    Slot(u32),
    /// The connection has ended, and its tasks are dropped at this time.
    Ended(Time),
}

struct Running {
    serial: u64,
    is_ordered: bool,
    abort: AbortHandle,
}

impl Group {
    fn count(&self) -> usize {
        self.running.len() + self.waiting.len()
    }
}

/// A task that has finished: its group, its serial number, and its output.
type Entry = (u32, u64, Result<Output, Panic>);

/// The outputs of tasks that wait for the next turn.
#[derive(Default)]
pub(crate) struct FinishedQueue {
    tasks: RefCell<VecDeque<Entry>>,
    waker: RefCell<Option<Waker>>,
}

impl FinishedQueue {
    fn push(&self, entry: Entry) {
        self.tasks.borrow_mut().push_back(entry);
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
            groups: Slab::new(),
            of_slot: Vec::new(),
            ended: BTreeSet::new(),
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

    /// The group of the connection in a slot, if it has tasks.
    fn group_of(&self, slot: u32) -> Option<u32> {
        let group = self.of_slot.get(slot as usize).copied();
        group.filter(|group| *group != NIL)
    }

    fn is_connection_full(&self, slot: u32) -> bool {
        let group = self.group_of(slot).map(|id| &self.groups[id as usize]);
        group.is_some_and(|it| it.count() >= self.per_connection_max || self.is_shard_full())
    }

    /// Starts the task that answers the request of a connection.
    pub(crate) fn start_answer(&mut self, slot: u32, task: TaskFuture) {
        let group = self.group(slot, Purpose::Answer);
        self.run(group, Contained::new(task), false);
    }

    /// Starts a task of a connection.
    pub(crate) fn start(&mut self, slot: u32, task: TaskFuture) {
        let group = self.group(slot, Purpose::Work);
        self.run(group, Contained::new(task), false);
    }

    /// Starts a task of a connection when all its tasks in order that were added before have finished.
    pub(crate) fn start_in_order(&mut self, slot: u32, task: TaskFuture) {
        let id = self.group(slot, Purpose::Work);
        let group = &mut self.groups[id as usize];
        if group.running.iter().any(|it| it.is_ordered) {
            group.waiting.push_back(Contained::new(task));
        } else {
            self.run(id, Contained::new(task), true);
        }
    }

    /// Counts a new task of a connection. Returns the group of the connection, which is made if it has none.
    fn group(&mut self, slot: u32, purpose: Purpose) -> u32 {
        assert!(
            self.per_shard_max > 0,
            "Config::max_tasks is 0, so a handler cannot start a task"
        );
        self.count += 1;
        if let Some(group) = self.group_of(slot) {
            return group;
        }
        let group = self.groups.insert(Group {
            purpose,
            owner: Owner::Slot(slot),
            running: Vec::new(),
            waiting: VecDeque::new(),
        });
        let Ok(group) = u32::try_from(group) else {
            unreachable!("a shard has fewer connections than 2^32")
        };
        let slot = slot as usize;
        if slot >= self.of_slot.len() {
            self.of_slot.resize(slot + 1, NIL);
        }
        self.of_slot[slot] = group;
        group
    }

    fn run(&mut self, group: u32, task: Contained, is_ordered: bool) {
        self.serial += 1;
        let (serial, finished) = (self.serial, Rc::clone(&self.finished));
        let handle = self.local.spawn_local(async move {
            let output = task.await;
            finished.push((group, serial, output));
        });
        self.groups[group as usize].running.push(Running {
            serial,
            is_ordered,
            abort: handle.abort_handle(),
        });
    }

    /// Takes the output of the next task that has finished, and starts the task that follows it in order.
    pub(crate) fn next_finished(&mut self) -> Option<Finished> {
        loop {
            let (group, serial, output) = self.finished.tasks.borrow_mut().pop_front()?;
            if let Some(slot) = self.end(group, serial) {
                return Some(Finished { slot, output });
            }
            // The task was dropped when it had just finished. The destructor of the output may panic.
            let _ = contain::catch(|| drop(output));
        }
    }

    /// Removes a task that has finished. Returns the slot of its connection, if that has not ended; `None` if the task
    /// was dropped before.
    #[expect(
        clippy::option_option,
        reason = "a task may have no connection any more"
    )]
    fn end(&mut self, id: u32, serial: u64) -> Option<Option<u32>> {
        // The group may be another one, whose tasks have other serial numbers.
        let group = self.groups.get_mut(id as usize)?;
        let at = group.running.iter().position(|it| it.serial == serial)?;
        let owner = group.owner;
        let next = match group.running.swap_remove(at).is_ordered {
            true => group.waiting.pop_front(),
            false => None,
        };
        let is_over = group.count() == 0 && next.is_none();
        self.count -= 1;
        if let Some(next) = next {
            self.run(id, next, true);
        }
        if is_over {
            self.groups.remove(id as usize);
        }
        match owner {
            Owner::Slot(slot) => {
                if is_over {
                    self.of_slot[slot as usize] = NIL;
                }
                Some(Some(slot))
            }
            Owner::Ended(deadline) => {
                if is_over {
                    self.ended.remove(&(deadline, id));
                }
                Some(None)
            }
        }
    }

    /// Ends the tasks of a connection that has ended: an answer at once, and work at `deadline`.
    pub(crate) fn end_connection(&mut self, slot: u32, deadline: Time) {
        if self.count == 0 {
            return;
        }
        let Some(id) = self.group_of(slot) else {
            return;
        };
        self.of_slot[slot as usize] = NIL;
        let group = &mut self.groups[id as usize];
        group.owner = Owner::Ended(deadline);
        match group.purpose {
            Purpose::Answer => self.drop_group(id),
            Purpose::Work => _ = self.ended.insert((deadline, id)),
        }
    }

    /// Time at which tasks of connections that have ended are dropped.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.ended.first().map(|(deadline, _)| *deadline)
    }

    /// Drops the tasks of connections that have ended, whose deadline is not after `time`.
    pub(crate) fn drop_overdue(&mut self, time: Time) {
        while let Some((deadline, id)) = self.ended.first().copied()
            && deadline <= time
        {
            self.ended.pop_first();
            self.drop_group(id);
        }
    }

    /// Drops the tasks of all connections that have ended.
    pub(crate) fn drop_ended(&mut self) {
        for (_, id) in std::mem::take(&mut self.ended) {
            self.drop_group(id);
        }
    }

    fn drop_group(&mut self, id: u32) {
        let group = self.groups.remove(id as usize);
        self.count -= group.count();
        for task in &group.running {
            task.abort.abort();
        }
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

impl Contained {
    fn new(task: TaskFuture) -> Self {
        Self { task: Some(task) }
    }
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
