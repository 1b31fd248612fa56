//! In: what the library logs. Out: lines on stderr, for `--verbose`.

use std::sync::OnceLock;
use std::time::Instant;

use log::{LevelFilter, Log, Metadata, Record};

use crate::cli::output::print::detail;

/// Prints what this crate logs, with the seconds since the start.
struct Details {
    begun: OnceLock<Instant>,
}

static DETAILS: Details = Details { begun: OnceLock::new() };

/// From now on what the library logs is printed.
pub(crate) fn listen() {
    DETAILS.begun.get_or_init(Instant::now);
    if log::set_logger(&DETAILS).is_ok() {
        log::set_max_level(LevelFilter::Debug);
    }
}

impl Log for Details {
    /// What other crates log may hold addresses with secrets.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().split("::").next() == Some("dpg_bench")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let since = self.begun.get().map(Instant::elapsed).unwrap_or_default();
            detail(&format!("[{:.3} s] {}", since.as_secs_f64(), record.args()));
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_this_crate_logs_is_printed() {
        let is_heard = |target: &str| DETAILS.enabled(&Metadata::builder().target(target).build());
        assert!(is_heard("dpg_bench") && is_heard("dpg_bench::checkpoint::folder"));
        assert!(!is_heard("ureq::run") && !is_heard("dpg_bench_other"));
    }
}
