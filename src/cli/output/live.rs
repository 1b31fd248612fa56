//! In: a run that this process is making. Out: from time to time the line that `watch` would show of it.
//! Where the line is shown is left to `progress`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::benchmark::Item;

use crate::cli::commands::watch::{Part, line, look};
use crate::cli::output::verbosity::{Verbosity, verbosity};

/// The journals are read as a whole each time: that may take this share of the time at most.
const SHARE: u32 = 50;

/// The run that is made.
pub(crate) struct Live<'a> {
    run: PathBuf,
    items: &'a [&'a Item],
    is_eager: bool,
}

impl<'a> Live<'a> {
    /// Of the run at `run` and the items that it is about: with `--live` (`is_eager`), and once a minute where stderr is no
    /// terminal. Not where nobody is to hear of it.
    pub(crate) fn of(run: &Path, items: &'a [&'a Item], is_eager: bool) -> Option<Self> {
        let is_wanted = is_eager || !std::io::stderr().is_terminal();
        let is_heard = is_wanted && verbosity() > Verbosity::Quiet;
        is_heard.then(|| Self { run: run.to_owned(), items, is_eager })
    }

    /// The part called `name`: `images`, or a judge.
    pub(crate) fn part(&self, name: &str) -> LivePart<'a> {
        let state = State { begun: Instant::now(), first: None, next: Instant::now() };
        LivePart {
            run: self.run.clone(),
            items: self.items,
            name: name.to_owned(),
            is_eager: self.is_eager,
            state: Mutex::new(state),
        }
    }
}

/// One part of the run, looked at again and again.
pub(crate) struct LivePart<'a> {
    run: PathBuf,
    items: &'a [&'a Item],
    name: String,
    /// Whether more is wanted than the score once a minute.
    pub is_eager: bool,
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
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = self.look(&mut state, every)?;
        let elapsed = state.begun.elapsed();
        let first = state.first.get_or_insert_with(|| parts.clone());
        let part = parts.iter().find(|part| part.name == self.name)?;
        Some(line(part, first, Some(elapsed)))
    }

    /// The score so far, where there is one and looking for it takes no more than its share of the time.
    pub(crate) fn score(&self) -> Option<String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = self.look(&mut state, Duration::from_nanos(1))?;
        let part = parts.into_iter().find(|part| part.name == self.name)?;
        Some(part.score).filter(|score| !score.is_empty())
    }

    fn look(&self, state: &mut State, every: Duration) -> Option<Vec<Part>> {
        let begun = Instant::now();
        if begun < state.next && !every.is_zero() {
            return None;
        }
        let parts = look(&self.run, self.items).ok();
        state.next = Instant::now() + every.max(begun.elapsed() * SHARE);
        parts
    }
}
