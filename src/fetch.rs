//! In: the name of a model, a judge or the benchmark. Out: its files, from where they are published, each
//! checked against a digest before it counts; and where files that were fetched lie. What is done with them
//! is left to the stages; bars and sentences for people are left to the command line.
//!
//! `catalog` says what there is, `listing` (with `hugging_face`, `model_scope` and `dpg_bench`) what a
//! publisher states of it, `store` where it goes, `lock_file` what was got, `transfer` how one file comes,
//! `fetch_sources` all of them together, `copies` whether two publishers' files are the same.

pub mod catalog;
mod client;
mod copies;
mod digest;
mod dpg_bench;
mod fetch_error;
mod fetch_sources;
mod file_rules;
mod hugging_face;
mod listing;
mod locate;
mod lock_file;
mod model_scope;
mod model_scope_cache;
mod observer;
mod places;
mod python_paths;
mod server_fault;
mod source;
mod store;
mod transfer;
mod transformer_sources;
mod whole_folder;

pub use catalog::{FETCHABLE, Fetchable, Host, Role, Source};
pub use copies::{Comparison, compare_copies};
pub use fetch_error::{EnvironmentFault, FetchError, LockFileFault};
pub use fetch_sources::{FetchOptions, Fetched, fetch};
pub use file_rules::{FileRule, Precision};
pub use locate::{FetchState, Found, in_hub_cache, locate, state_of, verify};
pub use lock_file::{LOCK_FILE, LockFile, LockedFile, Witness};
pub use observer::{FetchObserver, Silent};
pub use places::{BENCHMARK_FOLDER, Endpoint, Places};
