//! In: a run's answers by one judge, and what people say of the same questions. Out: a random sample of the questions, to be put
//! to people, and their labels, read again and checked against it. How the page looks on which they are asked is left to `reports`.

pub mod cells;
pub mod comparison;
pub mod correction;
pub mod draw;
mod figures;
pub mod folder;
pub mod label_file;
pub mod labels;
pub mod people;
pub mod population;
pub mod request;
pub mod sample;
pub mod server;

pub use cells::Cell;
pub use comparison::{AuditComparison, compare_corrected};
pub use correction::{Correction, CorrectionError, ScoredRun};
pub use draw::{Strata, Stratum};
pub use folder::AuditFolder;
pub use label_file::LabelFile;
pub use labels::{GivenLabel, Label, LabelCheck, LabelError, LabelFault, LabelRecord, Labels};
pub use population::{JudgedRun, Population, Unit, UnitKind};
pub use sample::{AskedFor, AskedQuestion, AuditSample, SampleError};
pub use server::{AuditServer, ServerObserver};
