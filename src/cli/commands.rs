//! In: a command's flags. Out: what it does, one file a command.

pub mod agreement;
pub mod baseline;
pub mod check;
pub mod compare;
pub mod convert;
pub mod demo;
pub mod doctor;
pub mod fetch;
pub mod forensics;
pub mod generate;
pub mod import;
pub mod import_log;
pub mod judge;
pub mod list;
pub mod measure;
pub mod merge;
pub mod report;
pub mod run;
pub mod score;
pub mod show;
pub mod validate;
pub mod watch;
