//! In: the scored items of a run. Out: its figures, each with its counts, as a summary and as a long
//! table. How they look on paper is left to `reports`.

pub mod baseline;
pub mod benchmark_score;
pub mod category_figures;
pub(crate) mod category_order;
pub mod control_figures;
pub(crate) mod control_report;
pub mod coverage;
pub mod dropped_questions;
pub(crate) mod ensemble;
pub mod estimate;
mod image_spread;
pub(crate) mod judge_agreement;
mod probability_agreement;
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
pub use control_figures::{Chance, ControlFigures, YesRate};
pub(crate) use control_report::{AlwaysYes, CONTROLS, Control, ControlReport, always_yes};
pub use coverage::{Coverage, DroppedItem};
pub use dropped_questions::DroppedQuestions;
pub(crate) use ensemble::{EnsembleRule, EnsembleScore};
pub use estimate::Estimate;
pub use image_spread::ScoreSpread;
pub(crate) use judge_agreement::{
    AgreementReport, CategoryAgreement, ItemDispute, JudgedSummary, PairAgreement, QuestionDispute,
    ScoreDifference,
};
pub(crate) use probability_agreement::ProbabilityAgreement;
pub use shares::Shares;
pub use summary::{
    IntervalKind, IntervalMethod, JudgeIdentity, NoProbability, ProtocolSummary, RunIdentity,
    Summary, SummaryInput,
};
