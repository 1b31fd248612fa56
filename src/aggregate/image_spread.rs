//! In: a scored run. Out: where the error bar of its score comes from, and which differences a run of
//! its size can tell.

use serde::{Deserialize, Serialize};

use crate::score::RunScore;
use crate::statistics::{PowerAnalysis, VarianceSplit};

/// Variance of the benchmark score by its source, as standard deviations in points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScoreSpread {
    /// Of the items' true scores: prompts differ.
    pub between_items: f64,
    /// Of an image's score about its item's: seeds differ. 0 where no item has two images.
    pub between_images: f64,
    /// Standard error of the score that comes of the images alone: what it would move by if the same
    /// model made all pictures anew.
    pub image_error: f64,
    /// The smallest difference from another run over the same items that is found with a probability
    /// of 80 % at a level of 5 %, in points, where both models find the same items hard.
    pub detectable_alike: f64,
    /// The same where the models' item scores have nothing to do with each other.
    pub detectable_unrelated: f64,
}

impl ScoreSpread {
    /// Of the images' scores after the dependency rule; `None` below two items.
    pub(super) fn of(score: &RunScore<'_>) -> Option<Self> {
        let scores: Vec<Vec<f64>> = score
            .items
            .iter()
            .filter(|item| item.outcome.score.is_ok())
            .map(|item| item.outcome.image_scores().collect())
            .collect();
        let split = VarianceSplit::of(&scores)?;
        let items = split.items as f64;
        let of_images = split.between_images / split.images;
        // The difference of two runs has both their variances.
        let detectable = |variance: f64| {
            100.0 * PowerAnalysis::default().smallest_difference((2.0 * variance).sqrt(), items)
        };
        Some(Self {
            between_items: 100.0 * split.between_items.sqrt(),
            between_images: 100.0 * split.between_images.sqrt(),
            image_error: 100.0 * (of_images / items).sqrt(),
            detectable_alike: detectable(of_images),
            detectable_unrelated: detectable(split.between_items + of_images),
        })
    }
}
