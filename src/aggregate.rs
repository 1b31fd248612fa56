//! In: the scored items of a run. Out: its figures, each with its counts, as a summary and as a long
//! table. How they look on paper is left to `reports`.

pub mod baseline;
pub mod category_figures;
pub(crate) mod category_order;
pub mod coverage;
pub mod estimate;
mod image_spread;
pub(crate) mod judge_agreement;
pub mod published;
pub mod readable;
pub mod run_settings;
pub mod score_table;
pub mod shares;
pub mod summary;

pub use crate::aggregate::shares::Stage;
pub use crate::score::Protocol;
pub use baseline::Baseline;
pub use category_figures::CategoryFigure;
pub use category_figures::Level;
pub use category_figures::category_figures;
pub use coverage::{Coverage, DroppedItem};
pub use estimate::Estimate;
pub use image_spread::ScoreSpread;
pub(crate) use judge_agreement::{
    AgreementReport, CategoryAgreement, ItemDispute, JudgedSummary, PairAgreement, QuestionDispute,
    ScoreDifference,
};
pub use shares::Shares;
pub use summary::{
    IntervalKind, IntervalMethod, JudgeIdentity, NoProbability, ProtocolSummary, RunIdentity,
    Summary, SummaryInput,
};
