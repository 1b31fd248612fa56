//! In: what happens inside a running stage. Out: calls that a progress bar (or nobody) listens to,
//! and who may ask it to stop.
//! The library itself prints nothing.

/// Listens to a stage that works through images.
pub trait StageObserver: Sync {
    /// The work on images begins: images in all, and how many of them an earlier sitting has done.
    fn started(&self, total: u64, already_done: u64) {
        let _ = (total, already_done);
    }

    /// Before the first image: `done` of `total` prompts are encoded ahead.
    fn prompt_prepared(&self, done: u64, total: u64) {
        let _ = (done, total);
    }

    /// One image is done and recorded.
    fn image_done(&self, item: &str, image: u32) {
        let _ = (item, image);
    }

    /// One image (or some of its questions) failed and the failure is recorded; the run goes on.
    fn image_failed(&self, item: &str, image: u32, reason: &str) {
        let _ = (item, image, reason);
    }

    /// The first `count` items are behind the stage: each of their images is recorded, as made or as failed, and
    /// will not be touched again. Said before the first image and then again and again; it never becomes less.
    fn items_finished(&self, count: usize) {
        let _ = count;
    }

    /// There is no picture, and will be none, of an image that `started` has counted.
    fn image_missing(&self, item: &str, image: u32) {
        let _ = (item, image);
    }

    /// The judge reads only the first `seen` of the `of` tokens of a question.
    fn question_cut(&self, item: &str, question: u32, seen: u32, of: u32) {
        let _ = (item, question, seen, of);
    }

    /// Whether the stage is to end after the image in hand. What is finished by then is kept, and the stage
    /// returns as if there were no more to do, with a mark that says so.
    fn stop_requested(&self) -> bool {
        false
    }

    /// The stage is over.
    fn finished(&self) {}
}

/// Listens to nothing.
pub struct Silent;

impl StageObserver for Silent {}
