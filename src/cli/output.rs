//! In: what a command found and how far it is. Out: text on stdout and stderr, and an exit status.

pub mod bars;
pub mod console;
pub mod exit_status;
pub mod fetch_bars;
pub mod live;
pub mod print;
pub mod progress;
pub mod published;
pub mod question_tree;
