//! In: a command's flags. Out: what it does, one file a command.

pub(super) mod agreement;
pub(super) mod baseline;
pub(super) mod check;
pub(super) mod compare;
pub(super) mod control;
pub(super) mod convert;
pub(super) mod demo;
pub(super) mod doctor;
pub(super) mod export;
pub(super) mod fetch;
pub(super) mod forensics;
pub(super) mod generate;
pub(super) mod history;
pub(super) mod import;
pub(super) mod import_log;
pub(super) mod judge;
pub(super) mod list;
pub(super) mod measure;
pub(super) mod merge;
pub(super) mod model_list;
pub(super) mod report;
pub(super) mod run;
pub(super) mod score;
pub(super) mod show;
pub(super) mod validate;
pub(super) mod watch;
