//! In: what a fetch tells of itself. Out: a bar for all files and one for each large file on a terminal;
//! elsewhere a line for each repository and each trouble.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::output::bars::draw_target;
use crate::fetch::FetchObserver;

/// Smaller files have no bar of their own.
const LARGE: u64 = 8 << 20;

/// Shows a fetch on stderr.
pub(crate) struct FetchBars {
    bars: MultiProgress,
    total: ProgressBar,
    files: Mutex<Files>,
}

#[derive(Default)]
struct Files {
    /// Bytes of each file when first heard of, and now.
    positions: BTreeMap<String, (u64, u64)>,
    bars: BTreeMap<String, ProgressBar>,
}

impl FetchBars {
    /// Nothing is shown yet.
    pub(crate) fn new() -> Self {
        let bars = MultiProgress::with_draw_target(draw_target());
        let total = bars.add(ProgressBar::hidden());
        Self { bars, total, files: Mutex::default() }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, text: &str) {
        self.bars.suspend(|| crate::cli::output::print::say(text));
    }
}

impl FetchObserver for FetchBars {
    fn planned(&self, repository: &str, licence: &str, files: usize, bytes: u64) {
        if files == 0 {
            return;
        }
        let size = megabytes(bytes);
        self.say(&format!("{repository}: {files} files to fetch, {size}; licence: {licence}"));
        *self.files() = Files::default();
        let template = "{bytes}/{total_bytes} {wide_bar} {bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.total.set_style(style);
        }
        self.total.set_length(bytes);
        self.total.set_position(0);
        self.total.reset();
    }

    fn position(&self, file: &str, position: u64, size: Option<u64>) {
        let mut files = self.files();
        let entry = files.positions.entry(file.to_owned()).or_insert((position, position));
        entry.1 = position;
        // A file may begin again, and then counts for less than it had.
        let came = files.positions.values().map(|(first, now)| now.saturating_sub(*first)).sum();
        self.total.set_position(came);
        let Some(size) = size.filter(|size| *size >= LARGE) else { return };
        let bar = files.bars.entry(file.to_owned()).or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new(size));
            let template = "  {bytes}/{total_bytes} {bar:20} {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.with_message(file.to_owned())
        });
        bar.set_position(position);
    }

    fn waiting(&self, file: &str, reason: &str, wait: Duration) {
        let again = match wait.as_secs_f64() {
            0.0 => String::new(),
            seconds => format!("; again in {seconds:.0} s"),
        };
        self.say(&format!("{file}: {reason}{again}"));
    }

    fn done(&self, file: &str) {
        if let Some(bar) = self.files().bars.remove(file) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    fn finished(&self) {
        let _ = self.bars.clear();
    }
}

/// `12.3 MB`, `4.27 GB`.
pub(crate) fn megabytes(bytes: u64) -> String {
    let bytes = bytes as f64;
    if bytes >= 1e9 { format!("{:.2} GB", bytes / 1e9) } else { format!("{:.1} MB", bytes / 1e6) }
}
