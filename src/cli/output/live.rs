//! In: a run that this process is making. Out: from time to time the line that `watch` would show of it.
//! Where the line is shown is left to `progress`.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::benchmark::Item;

use crate::cli::commands::watch::{Part, line, look};

/// The journals are read as a whole each time: that may take this share of the time at most.
const SHARE: u32 = 50;

/// The run that is made.
pub(crate) struct Live<'a> {
    run: PathBuf,
    items: &'a [&'a Item],
}

impl<'a> Live<'a> {
    /// Of the run at `run` and the items that it is about.
    pub(crate) fn new(run: &Path, items: &'a [&'a Item]) -> Self {
        Self { run: run.to_owned(), items }
    }

    /// The part called `name`: `images`, or a judge.
    pub(crate) fn part(&self, name: &str) -> LivePart<'a> {
        let state = State { begun: Instant::now(), first: None, next: Instant::now() };
        LivePart {
            run: self.run.clone(),
            items: self.items,
            name: name.to_owned(),
            state: Mutex::new(state),
        }
    }
}

/// One part of the run, looked at again and again.
pub(crate) struct LivePart<'a> {
    run: PathBuf,
    items: &'a [&'a Item],
    name: String,
    state: Mutex<State>,
}

struct State {
    begun: Instant,
    first: Option<Vec<Part>>,
    next: Instant,
}

impl LivePart<'_> {
    /// What there is to say, if `every` has gone by since it was said last. A run that cannot be read at the
    /// moment has nothing to say: this must not stop the work.
    pub(crate) fn line(&self, every: Duration) -> Option<String> {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let begun = Instant::now();
        if begun < state.next && !every.is_zero() {
            return None;
        }
        let parts = look(&self.run, self.items).ok();
        state.next = Instant::now() + every.max(begun.elapsed() * SHARE);
        let parts = parts?;
        let elapsed = state.begun.elapsed();
        let first = state.first.get_or_insert_with(|| parts.clone());
        let part = parts.iter().find(|part| part.name == self.name)?;
        Some(line(part, first, elapsed))
    }
}
