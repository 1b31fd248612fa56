//! In: a stage's observer, the session's listener and the stages beside it. Out: one observer that all of them
//! hear through, and that stops the stage when any of them says so.

use super::listener::{Listener, Stage};
use super::shared_progress::SharedProgress;
use crate::stage_observer::StageObserver;

/// What a stage of a session reports to.
pub(super) struct Watched<'a> {
    observer: Box<dyn StageObserver + 'a>,
    listener: &'a dyn Listener,
    shared: Option<&'a SharedProgress>,
}

impl<'a> Watched<'a> {
    /// A stage that begins, beside others where they share their progress.
    pub(super) fn new(
        listener: &'a dyn Listener,
        stage: Stage<'_>,
        shared: Option<&'a SharedProgress>,
    ) -> Self {
        Self { observer: listener.observe(stage), listener, shared }
    }
}

impl StageObserver for Watched<'_> {
    fn started(&self, total: u64, already_done: u64) {
        self.observer.started(total, already_done);
    }

    fn prompt_prepared(&self, done: u64, total: u64) {
        self.observer.prompt_prepared(done, total);
    }

    fn image_done(&self, item: &str, image: u32) {
        self.observer.image_done(item, image);
    }

    fn image_failed(&self, item: &str, image: u32, reason: &str) {
        self.observer.image_failed(item, image, reason);
    }

    fn items_finished(&self, count: usize) {
        if let Some(shared) = self.shared {
            shared.reached(count);
        }
        self.observer.items_finished(count);
    }

    fn image_missing(&self, item: &str, image: u32) {
        self.observer.image_missing(item, image);
    }

    fn question_cut(&self, item: &str, question: u32, seen: u32, of: u32) {
        self.observer.question_cut(item, question, seen, of);
    }

    fn stop_requested(&self) -> bool {
        self.listener.stop_requested()
            || self.observer.stop_requested()
            || self.shared.is_some_and(SharedProgress::is_halted)
    }

    fn finished(&self) {
        self.observer.finished();
    }
}
