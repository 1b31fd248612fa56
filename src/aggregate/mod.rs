//! In: the scored items of a run. Out: its figures, each with its counts, as a summary and as a long
//! table. How they look on paper is left to `reports`.

pub mod category_figures;
pub mod coverage;
pub mod estimate;
mod image_spread;
pub mod score_table;
pub mod shares;
pub mod summary;

pub use crate::score::Protocol;
pub use category_figures::{CategoryFigure, Stage, category_figures};
pub use coverage::{Coverage, DroppedItem};
pub use estimate::Estimate;
pub use image_spread::ScoreSpread;
pub use shares::Shares;
pub use summary::{JudgeIdentity, ProtocolSummary, RunIdentity, Summary, SummaryInput};
