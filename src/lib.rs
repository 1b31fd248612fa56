//! Evaluation harness for text-to-image models on DPG-Bench (ELLA, arXiv 2403.05135).
//!
//! The names below are the library's face. [`Session`] makes a run: images, answers, scores. [`ImageGenerator`] and
//! [`Judge`] are what a model and a judge of one's own implement. `examples/` has a program for each.
//!
//! The modules are the rooms of the program; `docs/architecture.md` has the table of what may depend on what. They
//! are open for the program's own tests and benchmarks, and hidden here because they change without notice.

#[doc(hidden)]
pub mod aggregate;
#[doc(hidden)]
pub mod audit;
#[doc(hidden)]
pub mod benchmark;
#[doc(hidden)]
pub mod check;
#[doc(hidden)]
pub mod checkpoint;
// Help texts name parts as <this>.
#[allow(rustdoc::invalid_html_tags)]
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod compare;
#[doc(hidden)]
pub mod compute;
mod exports;
#[doc(hidden)]
pub mod fetch;
#[doc(hidden)]
pub mod forensics;
#[doc(hidden)]
pub mod generate;
#[doc(hidden)]
pub mod http;
#[doc(hidden)]
pub mod judge;
#[doc(hidden)]
pub mod machine;
#[doc(hidden)]
pub mod measure;
#[doc(hidden)]
pub mod models;
mod near_names;
#[doc(hidden)]
pub mod ordered_work;
#[doc(hidden)]
pub mod reports;
#[doc(hidden)]
pub mod results;
#[doc(hidden)]
pub mod score;
#[doc(hidden)]
pub mod session;
#[doc(hidden)]
pub mod stage_observer;
#[doc(hidden)]
pub mod statistics;
#[doc(hidden)]
pub mod text;
mod wording;

pub use image::{Rgb, RgbImage};

pub use aggregate::score_table::AnswerTable;
pub use aggregate::{Coverage, Estimate, NoProbability, Protocol, Summary};
pub use benchmark::{Benchmark, Category, Item, Question, Selection, Strictness};
pub use check::{Check, CheckError, CheckedFigure, Gate, Outcome};
pub use compare::{Comparison, Difference};
pub use generate::generate_run::GenerationSummary;
pub use generate::import::images::ImportSummary;
pub use generate::import::pixels::{ItemImages, PixelsFault};
pub use generate::noise::seeds::SeedMode;
pub use generate::sampling_choice::SamplingChoice;
pub use generate::{GeneratedImage, Hopeless, ImageGenerator};
pub use judge::judge_counts::JudgeCounts;
pub use judge::{Answer, Judge, JudgeRequest, JudgedImage};
pub use reports::check_reports::check_terminal;
pub use reports::paper_table::PaperOptions;
pub use reports::{comparison_terminal, html_table, terminal_table};
pub use results::image_store::MAX_IMAGE_SIDE;
pub use results::{RunDirectory, Settings, Shard};
pub use session::benchmarks::{benchmark_of_run, default_benchmark, load_benchmark};
pub use session::compared::{GateFault, check_run, compare_runs};
pub use session::control_options::ControlPartOptions;
pub use session::ella_options::EllaPartOptions;
pub use session::generator::LoadedGenerator;
pub use session::generator_options::GeneratorOptions;
pub use session::judge_options::{
    ChatOptions, EndpointChoice, JudgeOptions, LocalJudgeOptions, ScriptedOptions,
};
pub use session::listener::{Listener, Quiet, Stage};
pub use session::loaded_judge::LoadedJudge;
pub use session::reporting::{Report, ReportOptions, report, report_to};
pub use session::scoring::{JudgeFault, choose_judge, scored_answers, scored_run};
pub use session::{Session, SessionOptions};
pub use stage_observer::{Silent, StageObserver};
