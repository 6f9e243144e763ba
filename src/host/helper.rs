//! The few threads beside the loop, for work that blocks: unpacking, fsync, directory scans.
//!
//! The loop never waits for a disk. It submits a job; a helper runs it; the result is collected by
//! the loop when the eventfd becomes readable. Both queues are bounded by the number of jobs under
//! way: a full pool hands the job back, and its owner says "overloaded" to whoever asked.
//!
//! ```text
//! loop --submit--> queue --> thread (one job at a time) --> results --eventfd--> loop --collect-->
//! ```
//!
//! Helpers never start processes that live on: a zygote's parent-death signal belongs to the
//! *thread* that started it, so those are started by the loop.

#![forbid(unsafe_code)]

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

type Job<T> = Box<dyn FnOnce() -> T + Send>;

/// A bounded pool of named threads whose results the loop collects.
#[derive(Debug)]
pub struct Helpers<T> {
    shared: Arc<Shared<T>>,
    threads: Vec<JoinHandle<()>>,
    jobs_max: usize,
    under_way: usize,
}

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    arrived: Condvar,
    finished: OwnedFd,
}

struct Queue<T> {
    jobs: VecDeque<Job<T>>,
    results: VecDeque<T>,
    closed: bool,
}

impl<T> core::fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// No more jobs are taken until some finish.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Full;

impl<T: Send + 'static> Helpers<T> {
    /// Starts `count` threads called `NAME-0`, `NAME-1`, ...
    pub fn start(name: &str, count: usize, jobs_max: usize) -> io::Result<Self> {
        assert!(count > 0 && jobs_max >= count);
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                jobs: VecDeque::with_capacity(jobs_max),
                results: VecDeque::with_capacity(jobs_max),
                closed: false,
            }),
            arrived: Condvar::new(),
            finished: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        });
        let mut threads = Vec::with_capacity(count);
        for number in 0..count {
            let shared = Arc::clone(&shared);
            threads.push(
                std::thread::Builder::new()
                    .name(format!("{name}-{number}"))
                    .spawn(move || shared.work())?,
            );
        }
        Ok(Self {
            shared,
            threads,
            jobs_max,
            under_way: 0,
        })
    }

    /// Readable when results wait.
    pub fn finished_fd(&self) -> BorrowedFd<'_> {
        self.shared.finished.as_fd()
    }

    /// How many jobs were submitted and not yet collected.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// No job would be taken now.
    pub fn is_full(&self) -> bool {
        self.under_way == self.jobs_max
    }

    /// Queues a job; its result is met in a later `collect`.
    pub fn submit(&mut self, job: impl FnOnce() -> T + Send + 'static) -> Result<(), Full> {
        if self.is_full() {
            return Err(Full);
        }
        self.under_way += 1;
        self.shared.lock().jobs.push_back(Box::new(job));
        self.shared.arrived.notify_one();
        Ok(())
    }

    /// Forgets what no thread has begun.
    pub fn give_up(&mut self) {
        self.shared.lock().jobs.clear();
    }

    /// Moves the results that wait into `out`.
    pub fn collect(&mut self, out: &mut Vec<T>) {
        let mut count = [0; 8];
        // An empty eventfd answers EAGAIN: then a result may still wait whose signal comes next.
        let _ = rustix::io::read(&self.shared.finished, &mut count);
        let mut queue = self.shared.lock();
        self.under_way -= queue.results.len();
        out.extend(queue.results.drain(..));
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue<T>> {
        // Jobs run outside the lock, so a poisoned queue is still whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(job) = self.next_job() {
            let result = job();
            self.lock().results.push_back(result);
            // Cannot fail: the counter is far from its maximum, the descriptor is our own.
            let _ = rustix::io::write(&self.finished, &1_u64.to_ne_bytes());
        }
    }

    fn next_job(&self) -> Option<Job<T>> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue = self
                .arrived
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> Drop for Helpers<T> {
    /// Finishes what was queued: an upload half written is worse than an exit a moment later.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.arrived.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Threads that one job is spread over, its own included.
const SPREAD_MAX: usize = 4;
/// Fewer things are not worth a thread.
const SPREAD_MIN: usize = 16;

/// Does this to each of many things, on more threads while it lasts. After the first error no more
/// are begun. Blocks: for jobs of helpers.
pub fn spread<T: Sync, E: Send>(
    things: &[T],
    work: impl Fn(&T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<E>> = Mutex::new(None);
    let run = || {
        while let Some(thing) = things.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(thing) {
                next.store(things.len(), Ordering::Relaxed);
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert(error);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = if things.len() < SPREAD_MIN {
        1
    } else {
        threads.min(SPREAD_MAX)
    };
    std::thread::scope(|scope| {
        for number in 1..threads {
            let thread = std::thread::Builder::new().name(format!("spread-{number}"));
            // Without it the others do its part.
            let _ = thread.spawn_scoped(scope, run);
        }
        run();
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    fn wait<T: Send + 'static>(helpers: &mut Helpers<T>, wanted: usize) -> Vec<T> {
        let mut out = Vec::new();
        while out.len() < wanted {
            let mut fds = [PollFd::from_borrowed_fd(
                helpers.finished_fd(),
                PollFlags::IN,
            )];
            poll(&mut fds, None).unwrap();
            helpers.collect(&mut out);
        }
        out
    }

    #[test]
    fn every_result_comes_back_once() {
        let mut helpers = Helpers::start("test", 2, 8).unwrap();
        for number in 0..8 {
            helpers.submit(move || number * 2).unwrap();
        }
        assert_eq!(helpers.submit(|| 0), Err(Full));
        let mut results = wait(&mut helpers, 8);
        results.sort_unstable();
        assert_eq!(results, [0, 2, 4, 6, 8, 10, 12, 14]);
        assert_eq!(helpers.under_way(), 0);
        assert_eq!(helpers.submit(|| 0), Ok(()));
    }

    #[test]
    fn each_thing_is_done_once_and_an_error_comes_back() {
        for count in [0, 1, SPREAD_MIN, 10 * SPREAD_MIN] {
            let things: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            let done: Result<(), ()> = spread(&things, |thing| {
                thing.fetch_add(1, Ordering::Relaxed);
                Ok(())
            });
            assert_eq!(done, Ok(()));
            assert!(things.iter().all(|it| it.load(Ordering::Relaxed) == 1));
            let numbers: Vec<usize> = (0..count).collect();
            let failed = spread(&numbers, |number| match number {
                number if *number + 1 == count => Err("the last"),
                _ => Ok(()),
            });
            assert_eq!(failed.is_err(), count > 0);
        }
    }

    #[test]
    fn a_dropped_pool_finishes_its_queue() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let mut helpers = Helpers::start("test", 1, 4).unwrap();
        for number in 0..4 {
            let sender = sender.clone();
            helpers
                .submit(move || sender.send(number).unwrap())
                .unwrap();
        }
        drop(helpers);
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
    }
}
