//! In: how far the stage that makes images has got, and which stage cannot go on. Out: the same, for the
//! stages that work beside it and wait for it. What the stages do is theirs; they know nothing of each other.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::judge::judge_run::ImagesInProgress;

/// What stages that work side by side tell each other.
#[derive(Default)]
pub(super) struct SharedProgress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Items whose pictures are recorded, from the first on; none before pictures are made.
    finished: Option<usize>,
    /// No more pictures are made.
    is_over: bool,
    /// A stage cannot go on, so the others are to stop.
    is_halted: bool,
    /// Why.
    error: Option<anyhow::Error>,
}

impl SharedProgress {
    /// The pictures of the first `count` items are recorded.
    pub(super) fn reached(&self, count: usize) {
        self.change(|state| state.finished = Some(count));
    }

    /// A stage cannot go on. The first error is the one that stops the run; returns a later one.
    pub(super) fn halt(&self, error: anyhow::Error) -> Option<anyhow::Error> {
        self.change(|state| {
            state.is_halted = true;
            if state.error.is_some() {
                return Some(error);
            }
            state.error = Some(error);
            None
        })
    }

    /// Whether a stage could not go on.
    pub(super) fn is_halted(&self) -> bool {
        self.lock().is_halted
    }

    /// The error that stopped the run.
    pub(super) fn error(&self) -> Option<anyhow::Error> {
        self.lock().error.take()
    }

    /// Does the making of the pictures; whoever waits for one is let go when it ends, even by a panic.
    pub(super) fn while_making<T>(&self, make: impl FnOnce() -> T) -> T {
        let _end = OnDrop(|| {
            self.change(|state| {
                state.is_over = true;
                state.is_halted |= std::thread::panicking();
            });
        });
        make()
    }

    /// Does the work of a stage beside it; the others are stopped if it panics.
    pub(super) fn while_judging<T>(&self, work: impl FnOnce() -> T) -> T {
        let _end = OnDrop(|| self.change(|state| state.is_halted |= std::thread::panicking()));
        work()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.notify_all();
        changed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `is_so` or until it will never be.
    fn wait(&self, is_so: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waits = |state: &mut State| !is_so(state) && !state.is_over && !state.is_halted;
        self.changed.wait_while(self.lock(), waits).unwrap_or_else(PoisonError::into_inner)
    }
}

impl ImagesInProgress for SharedProgress {
    fn await_start(&self) -> bool {
        self.wait(|state| state.finished.is_some()).finished.is_some()
    }

    fn await_item(&self, place: usize) -> Option<usize> {
        let is_there = |state: &State| state.finished.is_some_and(|count| count > place);
        let state = self.wait(is_there);
        // Also when halted: what is there stays there, and whoever was first to ask must not be the only one told.
        state.finished.filter(|_| is_there(&state))
    }
}

/// Calls it when dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use anyhow::anyhow;

    use super::*;

    /// What each of several waiting threads is told in the end.
    fn told(places: &[usize], work: impl FnOnce(&SharedProgress)) -> Vec<Option<usize>> {
        let shared = SharedProgress::default();
        std::thread::scope(|scope| {
            let await_place = |place: usize| {
                let shared = &shared;
                scope.spawn(move || shared.await_start().then(|| shared.await_item(place)))
            };
            let threads: Vec<_> = places.iter().map(|place| await_place(*place)).collect();
            work(&shared);
            threads.into_iter().map(|thread| thread.join().unwrap().flatten()).collect()
        })
    }

    #[test]
    fn those_who_wait_are_let_go_when_their_item_is_there_or_will_never_be() {
        let to_the_end = |shared: &SharedProgress| {
            shared.while_making(|| (0..=3).for_each(|count| shared.reached(count)));
        };
        let all = told(&[0, 1, 2, 3], to_the_end);
        assert!(all[..3].iter().zip(1..).all(|(count, least)| *count >= Some(least)), "{all:?}");
        assert_eq!(all[3], None);
        assert_eq!(
            told(&[0, 1], |shared| shared.while_making(|| shared.reached(1))),
            [Some(1), None]
        );
        assert_eq!(told(&[0], |shared| shared.while_making(|| {})), [None]);
    }

    #[test]
    fn an_error_and_a_panic_stop_all_stages_and_the_first_error_counts() {
        let shared = SharedProgress::default();
        shared.reached(1);
        assert!(!shared.is_halted());
        assert!(shared.halt(anyhow!("the disk is full")).is_none());
        assert_eq!(shared.halt(anyhow!("so it is")).unwrap().to_string(), "so it is");
        assert!(shared.is_halted());
        assert_eq!((shared.await_item(0), shared.await_item(1)), (Some(1), None));
        assert_eq!(shared.error().unwrap().to_string(), "the disk is full");

        let broken = told(&[0], |shared| {
            let panics = || shared.while_making(|| panic!("the model broke"));
            assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
            assert!(shared.is_halted());
        });
        assert_eq!(broken, [None]);
        let shared = SharedProgress::default();
        let panics = || shared.while_judging(|| panic!("the judge broke"));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert!(shared.is_halted());
    }
}
