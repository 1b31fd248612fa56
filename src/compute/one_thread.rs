//! In: work of networks on the processor. Out: the same, done by one thread. Networks so small that most of their passes are done
//! before other threads are awake gain by it: several threads then do several images.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// Images side by side at most: each has a network and its results in memory.
const MOST: usize = 16;

/// A thread on which everything happens that is run in it, passes that are shared else included.
pub(crate) struct OneThread(ThreadPool);

impl OneThread {
    /// One.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn new() -> Result<Self, ThreadPoolBuildError> {
        Ok(Self(ThreadPoolBuilder::new().num_threads(1).build()?))
    }

    /// How many it is worth to have at work: as many as passes would be shared among, at least one.
    pub(crate) fn useful() -> usize {
        rayon::current_num_threads().clamp(1, MOST)
    }

    /// Does `work` on it and waits for that. A panic comes back to the caller.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.0.install(work)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use rayon::prelude::*;

    use super::*;

    #[test]
    fn all_of_the_work_is_done_by_one_thread() {
        let thread = OneThread::new().unwrap();
        let seen = Mutex::new(BTreeSet::new());
        let note = |_| {
            seen.lock().unwrap().insert(format!("{:?}", std::thread::current().id()));
        };
        thread.run(|| (0..1000).into_par_iter().for_each(note));
        assert_eq!(seen.lock().unwrap().len(), 1);
        assert!(!seen.lock().unwrap().contains(&format!("{:?}", std::thread::current().id())));
        let broken = std::panic::AssertUnwindSafe(|| thread.run(|| panic!("broken")));
        assert!(std::panic::catch_unwind(broken).is_err());
        assert_eq!(thread.run(|| 7), 7);
    }
}
