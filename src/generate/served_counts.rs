//! In: the outcomes of images. Out: how many of them a server changed or told something of that a score should be read
//! with. What is said of them is left to `session`.

use crate::results::Served;
use crate::results::progress::is_zero;

/// Images of which a server sent or said something that a score should be read with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct ServedCounts {
    /// Those that the server made of another prompt than the benchmark's, by its own word.
    #[serde(rename = "revised_prompts", skip_serializing_if = "is_zero")]
    pub revised: u64,
    /// Those of another size than was asked for.
    #[serde(rename = "other_sizes", skip_serializing_if = "is_zero")]
    pub other_size: u64,
    /// Those that came as JPEG or WebP, whose artefacts a judge sees.
    #[serde(rename = "lossy_files", skip_serializing_if = "is_zero")]
    pub lossy: u64,
    /// Those that the server says it made of another seed than it was sent.
    #[serde(rename = "other_seeds", skip_serializing_if = "is_zero")]
    pub other_seed: u64,
}

impl ServedCounts {
    /// Counts one image.
    pub(super) fn count(&mut self, served: &Served) {
        self.revised += u64::from(served.revised_prompt.is_some());
        self.other_size += u64::from(served.asked.is_some());
        self.lossy += u64::from(served.format != "png");
        self.other_seed += u64::from(served.seed_told.is_some());
    }
}
