//! In: the events of running stages. Out: for each a progress bar with rate and remaining time on a terminal,
//! one below the other where several stages run; where stderr is no terminal, the failures and one plain line a minute.
//! With `--live` the score so far as well.

use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::interrupt;
use crate::cli::output::bars::BARS;
use crate::cli::output::live::LivePart;
use crate::stage_observer::StageObserver;

/// Failures shown one by one; the rest are only counted (all of them stand in the journal).
const SHOWN_FAILURES: u64 = 5;

/// Between two looks at the score so far: on a terminal, where the line is written over, and elsewhere.
const ON_A_TERMINAL: Duration = Duration::from_secs(5);
const ELSEWHERE: Duration = Duration::from_secs(60);

/// Shows one stage on stderr.
pub(crate) struct StageProgress<'a> {
    bar: ProgressBar,
    verb: String,
    shown: Once,
    live: Option<LivePart<'a>>,
    failures: Mutex<u64>,
    cuts: Mutex<u64>,
    lines: Mutex<Lines>,
}

/// When the lines of a stage are told where there is no bar.
struct Lines {
    begun: Instant,
    already_done: u64,
    next: Instant,
}

impl<'a> StageProgress<'a> {
    /// A bar named by what the stage does, e.g. `generating`, and the part of the run whose score so far is
    /// told.
    pub(crate) fn new(verb: &str, live: Option<LivePart<'a>>) -> Self {
        let (bar, verb, shown) = (ProgressBar::hidden(), verb.to_owned(), Once::new());
        let begun = Instant::now();
        let lines = Mutex::new(Lines { begun, already_done: 0, next: begun + ELSEWHERE });
        Self { bar, verb, shown, live, failures: Mutex::new(0), cuts: Mutex::new(0), lines }
    }

    /// Puts the bar below those that are there; to be called when it has something to show.
    fn show(&self) {
        self.shown.call_once(|| {
            BARS.add(self.bar.clone());
            self.bar.tick();
        });
    }

    fn tell(&self, every: Duration) {
        let Some(line) = self.live.as_ref().and_then(|live| live.line(every)) else { return };
        if self.bar.is_hidden() {
            crate::cli::output::print::say(&line);
        } else {
            // The bar itself has the counts and the rate.
            let score = line.split_once("; ").map_or("", |(_, score)| score);
            self.bar.set_message(score.to_owned());
        }
    }

    /// Tells how far the stage is, once a minute, where nothing else does.
    fn tell_plainly(&self) {
        let mut lines = self.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if self.live.is_some() || !self.bar.is_hidden() || Instant::now() < lines.next {
            return;
        }
        lines.next = Instant::now() + ELSEWHERE;
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or_default());
        let here = done.saturating_sub(lines.already_done);
        crate::cli::output::print::say(&plain_line(
            &self.verb,
            done,
            total,
            here,
            lines.begun.elapsed(),
        ));
    }

    fn one_more(&self) {
        self.bar.inc(1);
        self.tell_plainly();
        self.tell(if self.bar.is_hidden() { ELSEWHERE } else { ON_A_TERMINAL });
    }
}

/// `generating 120/4260 images, 2.4 a second, 29 min left`: `here` of them were done in `elapsed`.
fn plain_line(verb: &str, done: u64, total: u64, here: u64, elapsed: Duration) -> String {
    let mut text = format!("{} {done}/{total} images", verb.trim_end());
    let seconds = elapsed.as_secs_f64();
    if here == 0 || seconds <= 0.0 {
        return text;
    }
    let each = seconds / here as f64;
    text += &if each < 1.0 {
        format!(", {:.1} a second", 1.0 / each)
    } else {
        format!(", {each:.1} s each")
    };
    let left = each * total.saturating_sub(done) as f64;
    text += &match left {
        ..90.0 => format!(", {left:.0} s left"),
        ..5400.0 => format!(", {:.0} min left", left / 60.0),
        _ => format!(", {:.1} h left", left / 3600.0),
    };
    text
}

impl StageObserver for StageProgress<'_> {
    fn stop_requested(&self) -> bool {
        interrupt::requested()
    }

    fn image_missing(&self, _: &str, _: u32) {
        self.bar.dec_length(1);
    }

    fn started(&self, total: u64, already_done: u64) {
        interrupt::work_begins();
        let template = "{prefix} {wide_bar} {pos}/{len} images, {per_sec}, {eta} left {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        self.bar.set_prefix(self.verb.clone());
        self.bar.set_length(total);
        self.bar.set_position(already_done);
        // The rate must not count what an earlier sitting did.
        self.bar.reset_eta();
        self.bar.reset_elapsed();
        let begun = Instant::now();
        *self.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) =
            Lines { begun, already_done, next: begun + ELSEWHERE };
        self.show();
    }

    fn prompt_prepared(&self, done: u64, total: u64) {
        if self.bar.length() != Some(total) {
            let template = "encoding prompts {wide_bar} {pos}/{len}, {per_sec}, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                self.bar.set_style(style);
            }
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
        self.show();
    }

    fn image_done(&self, _: &str, _: u32) {
        self.one_more();
    }

    fn image_failed(&self, item: &str, image: u32, reason: &str) {
        self.one_more();
        let count = {
            let mut failures =
                self.failures.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            *failures += 1;
            *failures
        };
        if count <= SHOWN_FAILURES {
            crate::cli::output::print::warn(&format!("{item}, image {image}: {reason}"));
        }
        if count == SHOWN_FAILURES {
            crate::cli::output::print::warn(
                "further failures are recorded in the journal and not shown here",
            );
        }
    }

    fn question_cut(&self, item: &str, question: u32, seen: u32, of: u32) {
        let count = {
            let mut cuts = self.cuts.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            *cuts += 1;
            *cuts
        };
        let rest = match count {
            ..SHOWN_FAILURES => "",
            SHOWN_FAILURES => "; further ones are only counted",
            _ => return,
        };
        let text =
            format!("{item}, question {question}: the judge reads {seen} of its {of} tokens{rest}");
        crate::cli::output::print::warn(&text);
    }

    fn finished(&self) {
        interrupt::work_ends();
        if self.bar.is_hidden() {
            self.tell(Duration::ZERO);
        }
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_rate_of_this_session_and_the_time_that_is_left() {
        let line = |done, total, here, seconds| {
            plain_line("generating", done, total, here, Duration::from_secs(seconds))
        };
        assert_eq!(
            line(120, 4260, 120, 50),
            "generating 120/4260 images, 2.4 a second, 29 min left"
        );
        // 100 were there before.
        assert_eq!(line(110, 200, 10, 100), "generating 110/200 images, 10.0 s each, 15 min left");
        assert_eq!(line(190, 200, 90, 180), "generating 190/200 images, 2.0 s each, 20 s left");
        assert_eq!(line(10, 4260, 10, 60), "generating 10/4260 images, 6.0 s each, 7.1 h left");
        assert_eq!(line(5, 9, 0, 60), "generating 5/9 images");
    }
}
