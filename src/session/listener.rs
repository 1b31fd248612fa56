//! In: nothing. Out: how a session tells its caller what happens. The library itself prints nothing.

use crate::stage_observer::{Silent, StageObserver};

/// Work that goes through images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage<'a> {
    /// Images are made.
    Generate,
    /// A judge is asked about them.
    Judge {
        /// Name that its answers are filed under.
        name: &'a str,
        /// How many stages are at work at the same time, this one included.
        at_once: usize,
    },
    /// Small images of them are made for a report; no stop is asked for.
    Thumbnails,
}

/// Hears of a session. Each method does nothing unless it is written anew.
pub trait Listener: Sync {
    /// One line on what was done or decided.
    fn note(&self, text: &str) {
        let _ = text;
    }

    /// One line on what is wrong but no reason to stop.
    fn warning(&self, text: &str) {
        let _ = text;
    }

    /// A stage begins; the result hears of its images.
    fn observe<'a>(&'a self, stage: Stage<'_>) -> Box<dyn StageObserver + 'a> {
        let _ = stage;
        Box::new(Silent)
    }

    /// Whether the session is to stop after the image in hand. What is finished is kept.
    fn stop_requested(&self) -> bool {
        false
    }
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Listener for Quiet {}
