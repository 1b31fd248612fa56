//! In: what a command found and how far it is. Out: text on stdout and stderr, and an exit status.

pub(crate) mod bars;
pub(crate) mod console;
pub(crate) mod details;
pub(crate) mod exit_status;
pub(crate) mod fetch_bars;
pub(crate) mod fitted;
pub mod live;
pub(crate) mod pace;
pub(crate) mod prefixed_files;
pub mod print;
pub mod progress;
pub mod published;
pub(crate) mod question_tree;
pub(crate) mod verbosity;
