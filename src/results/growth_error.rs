//! In: why a run cannot take in more items or images. Out: one sentence that says so and what to do.

use std::path::PathBuf;

/// Why a run cannot grow.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot take in more items or images: {reason}", path.display())]
pub struct GrowthError {
    pub(super) path: PathBuf,
    pub(super) reason: GrowthFault,
}

/// What stands in the way.
#[derive(Debug, thiserror::Error)]
pub(super) enum GrowthFault {
    #[error("it has shards of the smaller run; `dpg-bench merge {} --remove-shards` makes it one run, which can, \
             and keeps what was made; then give the same command again (or another --out, or delete the folder)", .0.display())]
    Shards(PathBuf),
    #[error(
        "its images were imported, and further ones would be made in another way; give \
         another --out, or delete the folder"
    )]
    Imported,
    #[error(
        "its seeds are `{0}`, and only images with a seed of their own (`--seed-mode hashed`) are taken over; \
         give another --out, or delete the folder"
    )]
    SeedMode(String),
    #[error(
        "its {images} images per item were made {batch} at a time, and an image may depend on those made \
         with it; a multiple of {batch} images could be added to; give another --out, or delete the folder"
    )]
    Batch { images: u32, batch: u64 },
}
