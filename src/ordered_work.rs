//! In: numbered pieces of work. Out: their results, made by several threads and handed over in order,
//! with a bound on how many wait; and workers of which each serves one thread at a time. What the work
//! is, is its caller's.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard};

/// What the threads of [`for_each_in_order`] share.
struct Progress<T> {
    next_to_start: usize,
    /// Pieces whose first part is being done.
    in_first_part: usize,
    next_to_write: usize,
    finished: BTreeMap<usize, anyhow::Result<T>>,
    stopped: bool,
    /// Work from here on is not done.
    end: usize,
}

/// Lets the threads go when the writing ends, by an error and even by a panic.
struct StopOnDrop<'p, T> {
    progress: &'p Mutex<Progress<T>>,
    changed: &'p Condvar,
}

impl<T> Drop for StopOnDrop<'_, T> {
    fn drop(&mut self) {
        lock(self.progress).stopped = true;
        self.changed.notify_all();
    }
}

/// How many threads do the work, and how far they may be ahead of what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crew {
    /// Threads that work.
    pub(crate) threads: usize,
    /// Pieces whose first part is done at a time; the other threads are at their second part.
    pub(crate) first_parts: usize,
    /// Pieces that may be begun and not yet written; at least one.
    pub(crate) window: usize,
    /// Results that are written at once, where so many are there.
    pub(crate) batch: usize,
}

/// The first part of a piece of work, until it is dropped: then another piece may be begun.
pub(crate) struct FirstPart<'p> {
    done: &'p (dyn Fn() + Sync),
}

impl Drop for FirstPart<'_> {
    fn drop(&mut self) {
        (self.done)();
    }
}

/// Runs `work(0..count)` on `threads` threads and hands each result to `write`, on the calling
/// thread and in order. Stops at the first error of either; work in progress is then awaited. What
/// was begun before the work that failed is still written. Once `stop` says so, nothing more is begun, and
/// what was begun is written. Returns how many were written. `work` must not panic.
///
/// At most `threads * ahead` pieces are begun and not yet written. It bounds what waits in memory, and what a
/// kill can cost while one piece is slow; with 1 and one thread, nothing is begun before what was made is
/// written.
///
/// # Errors
/// The first error, in order, of `work` or `write`.
pub(crate) fn for_each_in_order<T: Send>(
    count: usize,
    threads: usize,
    ahead: usize,
    work: impl Fn(usize) -> anyhow::Result<T> + Sync,
    mut write: impl FnMut(usize, T) -> anyhow::Result<()>,
    stop: impl Fn() -> bool + Sync,
) -> anyhow::Result<usize> {
    let crew = Crew {
        threads,
        first_parts: threads,
        window: threads.max(1).min(count) * ahead.max(1),
        batch: 1,
    };
    for_each_batch_in_order(
        count,
        crew,
        |index, _first_part| work(index),
        |first, results| results.into_iter().try_for_each(|result| write(first, result)),
        stop,
    )
}

/// As [`for_each_in_order`], with results handed over in batches, the number of the first with each, and with work of
/// two parts: no more than `crew.first_parts` pieces are in their first part, which `work` ends by dropping what it is given.
///
/// # Errors
/// As there; of a batch whose writing failed, none counts as written.
pub(crate) fn for_each_batch_in_order<T: Send>(
    count: usize,
    crew: Crew,
    work: impl Fn(usize, FirstPart<'_>) -> anyhow::Result<T> + Sync,
    mut write: impl FnMut(usize, Vec<T>) -> anyhow::Result<()>,
    stop: impl Fn() -> bool + Sync,
) -> anyhow::Result<usize> {
    let first_parts = crew.first_parts.max(1);
    let progress = Mutex::new(Progress {
        next_to_start: 0,
        in_first_part: 0,
        next_to_write: 0,
        finished: BTreeMap::new(),
        stopped: false,
        end: count,
    });
    let changed = Condvar::new();
    let first_part_done = || {
        lock(&progress).in_first_part -= 1;
        changed.notify_all();
    };
    let worker = || {
        loop {
            let index = {
                let mut state = lock(&progress);
                while !state.stopped
                    && state.next_to_start < state.end
                    && (state.next_to_start >= state.next_to_write + crew.window
                        || state.in_first_part >= first_parts)
                {
                    state = changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
                }
                if stop() {
                    state.end = state.end.min(state.next_to_start);
                    changed.notify_all();
                }
                if state.stopped || state.next_to_start >= state.end {
                    return;
                }
                state.next_to_start += 1;
                state.in_first_part += 1;
                state.next_to_start - 1
            };
            let result = work(index, FirstPart { done: &first_part_done });
            let mut state = lock(&progress);
            if result.is_err() {
                // Nothing after this will be written, so nothing more is begun.
                state.next_to_start = count;
            }
            state.finished.insert(index, result);
            drop(state);
            changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        let _stop = StopOnDrop { progress: &progress, changed: &changed };
        for _ in 0..crew.threads.max(1).min(count) {
            scope.spawn(worker);
        }
        let mut index = 0;
        while index < count {
            let (results, error) = {
                let mut state = lock(&progress);
                loop {
                    let taken = take_finished(&mut state.finished, index, crew.batch.max(1));
                    if !taken.0.is_empty() || taken.1.is_some() {
                        break taken;
                    }
                    if index >= state.end {
                        return Ok(index);
                    }
                    state = changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
                }
            };
            if !results.is_empty() {
                let next = index + results.len();
                write(index, results)?;
                index = next;
                lock(&progress).next_to_write = index;
                changed.notify_all();
            }
            if let Some(error) = error {
                return Err(error);
            }
        }
        Ok(count)
    })
}

/// Takes up to `most` results from `first` on, as far as there is none missing, and the error that ends them.
fn take_finished<T>(
    finished: &mut BTreeMap<usize, anyhow::Result<T>>,
    first: usize,
    most: usize,
) -> (Vec<T>, Option<anyhow::Error>) {
    let mut results = Vec::new();
    while results.len() < most {
        match finished.remove(&(first + results.len())) {
            Some(Ok(result)) => results.push(result),
            Some(Err(error)) => return (results, Some(error)),
            None => break,
        }
    }
    (results, None)
}

/// Workers that threads borrow one at a time: networks on several devices, say. Which one serves whom
/// must not show in the result.
pub(crate) struct Pool<W> {
    workers: Vec<Mutex<W>>,
    idle: Mutex<Vec<usize>>,
    returned: Condvar,
}

impl<W> Pool<W> {
    /// A pool of these workers; at least one, or [`Self::with`] never returns.
    pub(crate) fn new(workers: Vec<W>) -> Self {
        let idle = Mutex::new((0..workers.len()).rev().collect());
        Self {
            workers: workers.into_iter().map(Mutex::new).collect(),
            idle,
            returned: Condvar::new(),
        }
    }

    /// Does `work` with an idle worker, waiting for one where all are busy. The worker comes back even
    /// when `work` panics.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut W) -> T) -> T {
        let mut idle = lock(&self.idle);
        let place = loop {
            match idle.pop() {
                Some(place) => break place,
                None => {
                    idle = self.returned.wait(idle).unwrap_or_else(|poisoned| poisoned.into_inner())
                }
            }
        };
        drop(idle);
        let _borrowed = Borrowed { pool: self, place };
        work(&mut lock(&self.workers[place]))
    }
}

/// Returns its worker when dropped.
struct Borrowed<'p, W> {
    pool: &'p Pool<W>,
    place: usize,
}

impl<W> Drop for Borrowed<'_, W> {
    fn drop(&mut self) {
        lock(&self.pool.idle).push(self.place);
        self.pool.returned.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use anyhow::bail;

    use super::*;

    const AHEAD: usize = 4;

    #[test]
    fn results_come_in_order_and_the_work_is_bounded() {
        let (running, most, started) =
            (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let mut seen = Vec::new();
        for_each_in_order(
            60,
            4,
            AHEAD,
            |index| {
                started.fetch_add(1, Ordering::SeqCst);
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // The first is the slowest: the others may run ahead of it, but not without limit.
                let wait = if index == 0 { 60 } else { (index as u64 * 7) % 5 };
                std::thread::sleep(Duration::from_millis(wait));
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(index)
            },
            |index, result| {
                if index == 0 {
                    assert!(started.load(Ordering::SeqCst) <= 4 * AHEAD);
                }
                seen.push(result);
                Ok(())
            },
            || false,
        )
        .unwrap();
        assert_eq!(seen, (0..60).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::SeqCst), 4);
    }

    #[test]
    fn first_parts_are_few_and_batches_are_whole_and_in_order() {
        let (first, most, at_once) =
            (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let running = AtomicUsize::new(0);
        let mut seen = Vec::new();
        let mut batches = Vec::new();
        for_each_batch_in_order(
            60,
            Crew { threads: 5, first_parts: 2, window: 8, batch: 3 },
            |index, first_part| {
                at_once.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                most.fetch_max(first.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(1));
                first.fetch_sub(1, Ordering::SeqCst);
                drop(first_part);
                std::thread::sleep(Duration::from_millis(4));
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(index)
            },
            |index, results| {
                assert_eq!(index, seen.len());
                batches.push(results.len());
                seen.extend(results);
                std::thread::sleep(Duration::from_millis(12));
                Ok(())
            },
            || false,
        )
        .unwrap();
        assert_eq!(seen, (0..60).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::SeqCst), 2);
        assert!(at_once.load(Ordering::SeqCst) > 2);
        assert!(batches.iter().all(|&length| length <= 3) && batches.contains(&3), "{batches:?}");
    }

    #[test]
    fn what_is_before_an_error_in_a_batch_is_written() {
        let mut written = Vec::new();
        let error = for_each_batch_in_order(
            100,
            Crew { threads: 4, first_parts: 4, window: 8, batch: 8 },
            |index, _| if index == 5 { bail!("no key") } else { Ok(index) },
            |_, results| {
                written.extend(results);
                Ok(())
            },
            || false,
        )
        .unwrap_err();
        assert_eq!((error.to_string().as_str(), written), ("no key", vec![0, 1, 2, 3, 4]));
    }

    #[test]
    fn an_error_of_the_work_stops_it_and_what_is_before_it_is_written() {
        let (started, mut written) = (AtomicUsize::new(0), Vec::new());
        let error = for_each_in_order(
            1000,
            3,
            AHEAD,
            |index| {
                started.fetch_max(index, Ordering::SeqCst);
                let wait = if index == 6 { 0 } else { 20 };
                std::thread::sleep(Duration::from_millis(wait));
                if index == 6 { bail!("no key") } else { Ok(index) }
            },
            |_, result| {
                written.push(result);
                Ok(())
            },
            || false,
        )
        .unwrap_err();
        assert_eq!(error.to_string(), "no key");
        assert_eq!(written, [0, 1, 2, 3, 4, 5]);
        // However long the thread that failed was kept from saying so, the others could not get further.
        assert!(started.load(Ordering::SeqCst) < 6 + 3 * AHEAD);
    }

    #[test]
    fn an_error_of_the_writer_stops_the_work() {
        let started = AtomicUsize::new(0);
        let error = for_each_in_order(
            1000,
            3,
            AHEAD,
            |index| Ok(started.fetch_max(index, Ordering::SeqCst)),
            |index, _| if index == 5 { bail!("disk full") } else { Ok(()) },
            || false,
        )
        .unwrap_err();
        assert_eq!(error.to_string(), "disk full");
        assert!(started.load(Ordering::SeqCst) <= 5 + 3 * AHEAD);
        for_each_in_order(0, 4, AHEAD, |_| Ok(()), |_, ()| bail!("never called"), || false)
            .unwrap();
    }

    #[test]
    fn what_was_begun_before_a_stop_is_written_and_nothing_after_it() {
        for threads in [1, 3] {
            let (started, stop) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let mut written = Vec::new();
            let count = for_each_in_order(
                1000,
                threads,
                AHEAD,
                |index| {
                    started.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(2));
                    if index == 7 {
                        stop.store(1, Ordering::SeqCst);
                    }
                    Ok(index)
                },
                |_, result| {
                    written.push(result);
                    Ok(())
                },
                || stop.load(Ordering::SeqCst) == 1,
            )
            .unwrap();
            assert_eq!(count, started.load(Ordering::SeqCst));
            assert_eq!(written, (0..count).collect::<Vec<_>>());
            assert!((8..8 + threads * AHEAD).contains(&count), "{count}");
        }
        let none = for_each_in_order(9, 2, AHEAD, |_| Ok(()), |_, ()| Ok(()), || true).unwrap();
        assert_eq!(none, 0);
    }

    #[test]
    fn a_worker_serves_one_thread_at_a_time_and_comes_back_from_a_panic() {
        let pool = Pool::new(vec![0u32, 0]);
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    pool.with(|served| {
                        most.fetch_max(
                            running.fetch_add(1, Ordering::SeqCst) + 1,
                            Ordering::SeqCst,
                        );
                        std::thread::sleep(Duration::from_millis(5));
                        running.fetch_sub(1, Ordering::SeqCst);
                        *served += 1;
                    });
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 2);
        let broken = || pool.with(|_| panic!("broken"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(broken)).is_err());
        let served: u32 = pool.workers.iter().map(|served| *lock(served)).sum();
        assert_eq!((served, lock(&pool.idle).len()), (6, 2));
    }
}
