//! In: work of networks on the processor. Out: the same, done by all threads or by a single one. Networks so small that most of their
//! passes are done before other threads are awake gain by the latter: several threads then do several images.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// Images side by side at most: each has a network and its results in memory.
const MOST: usize = 16;

/// Where work is done.
pub(crate) struct Workplace {
    /// The thread of its own; `None` where passes are shared among all.
    own: Option<ThreadPool>,
}

impl Workplace {
    /// Where all threads share the passes.
    pub(crate) const SHARED: Self = Self { own: None };

    /// One with a thread of its own, on which everything happens, passes that are shared else included.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn of_one_thread() -> Result<Self, ThreadPoolBuildError> {
        Ok(Self { own: Some(ThreadPoolBuilder::new().num_threads(1).build()?) })
    }

    /// How many with one thread each it is worth to have: as many as passes would be shared among, at least one.
    pub(crate) fn useful() -> usize {
        rayon::current_num_threads().clamp(1, MOST)
    }

    /// Does `work` there and waits for that. A panic comes back to the caller.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.own {
            Some(thread) => thread.install(work),
            None => work(),
        }
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
        let place = Workplace::of_one_thread().unwrap();
        let seen = Mutex::new(BTreeSet::new());
        let note = |_| {
            seen.lock().unwrap().insert(format!("{:?}", std::thread::current().id()));
        };
        place.run(|| (0..1000).into_par_iter().for_each(note));
        assert_eq!(seen.lock().unwrap().len(), 1);
        assert!(!seen.lock().unwrap().contains(&format!("{:?}", std::thread::current().id())));
        let broken = std::panic::AssertUnwindSafe(|| place.run(|| panic!("broken")));
        assert!(std::panic::catch_unwind(broken).is_err());
        assert_eq!((place.run(|| 7), Workplace::SHARED.run(|| 8)), (7, 8));
    }
}
