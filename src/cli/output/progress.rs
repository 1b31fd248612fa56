//! In: the events of running stages. Out: for each a progress bar with rate and remaining time on a terminal,
//! one below the other where several stages run; where stderr is no terminal, the failures and one plain line a minute, with
//! the score so far where there is one. With `--live` the score on a terminal as well, and a line at the begin and the end.

use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::cli::interrupt;
use crate::cli::output::bars::BARS;
use crate::cli::output::live::LivePart;
use crate::cli::output::pace::{MINUTE, MinuteLines, duration, rate};
use crate::cli::output::print::{say, warn};
use crate::stage_observer::StageObserver;

/// Failures shown one by one; the rest are only counted (all of them stand in the journal).
const SHOWN_FAILURES: u64 = 5;

/// Between two looks at the score so far on a terminal, where the line is written over.
const ON_A_TERMINAL: Duration = Duration::from_secs(5);

/// Shows one stage on stderr.
pub(crate) struct StageProgress<'a> {
    bar: ProgressBar,
    verb: String,
    /// Whether a first signal waits for the image in hand.
    is_stoppable: bool,
    shown: Once,
    live: Option<LivePart<'a>>,
    failures: Mutex<u64>,
    cuts: Mutex<u64>,
    /// Of prompts first, then of images.
    lines: Mutex<Option<MinuteLines>>,
}

impl<'a> StageProgress<'a> {
    /// A bar named by what the stage does, e.g. `generating`, and the part of the run whose score so far is
    /// told.
    pub(crate) fn new(verb: &str, live: Option<LivePart<'a>>) -> Self {
        Self {
            bar: ProgressBar::hidden(),
            verb: verb.to_owned(),
            is_stoppable: true,
            shown: Once::new(),
            live,
            failures: Mutex::new(0),
            cuts: Mutex::new(0),
            lines: Mutex::new(None),
        }
    }

    /// Of work that a signal ends at once, and that has no score.
    pub(crate) fn unstoppable(verb: &str) -> Self {
        Self { is_stoppable: false, ..Self::new(verb, None) }
    }

    /// Puts the bar below those that are there; to be called when it has something to show.
    fn show(&self) {
        self.shown.call_once(|| {
            BARS.add(self.bar.clone());
            self.bar.tick();
        });
    }

    fn lines(&self) -> MutexGuard<'_, Option<MinuteLines>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells how far the stage is `now`, where it is time for that.
    fn tell(&self, now: Instant) {
        let live = self.live.as_ref();
        let eager = live.filter(|live| live.is_eager);
        if !self.bar.is_hidden() {
            if let Some(line) = eager.and_then(|live| live.line(ON_A_TERMINAL)) {
                // The bar itself has the counts and the rate.
                let score = line.split_once("; ").map_or("", |(_, score)| score);
                self.bar.set_message(score.to_owned());
            }
        } else if let Some(live) = eager {
            live.line(MINUTE).iter().for_each(|line| say(line));
        } else {
            self.minute_line(now).iter().for_each(|line| say(line));
        }
    }

    /// The line of this minute, if it has not been told.
    fn minute_line(&self, now: Instant) -> Option<String> {
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or_default());
        let line = self.lines().as_mut().and_then(|lines| lines.line(done, total, now))?;
        let score = self.live.as_ref().and_then(LivePart::score);
        Some(score.map_or(line.clone(), |score| format!("{line}; {score}")))
    }

    fn one_more(&self) {
        self.bar.inc(1);
        self.tell(Instant::now());
    }
}

/// Of a bar, with `{rate}` and `{left}` in the words of the plain lines.
fn style(template: &str) -> Option<ProgressStyle> {
    let style = ProgressStyle::with_template(template).ok()?;
    let style = style.with_key("rate", |state: &ProgressState, text: &mut dyn Write| {
        let _ = text.write_str(&rate(state.per_sec()));
    });
    Some(style.with_key("left", |state: &ProgressState, text: &mut dyn Write| {
        let _ = text.write_str(&duration(state.eta().as_secs_f64()));
    }))
}

impl StageObserver for StageProgress<'_> {
    fn stop_requested(&self) -> bool {
        interrupt::requested()
    }

    fn image_missing(&self, _: &str, _: u32) {
        self.bar.dec_length(1);
    }

    fn started(&self, total: u64, already_done: u64) {
        if self.is_stoppable {
            interrupt::work_begins();
        }
        let template = "{prefix} {wide_bar} {pos}/{len} images, {rate}, {left} left {msg}";
        style(template).into_iter().for_each(|style| self.bar.set_style(style));
        self.bar.set_prefix(self.verb.clone());
        self.bar.set_length(total);
        self.bar.set_position(already_done);
        // The rate must not count what an earlier sitting did.
        self.bar.reset_eta();
        self.bar.reset_elapsed();
        let lines = MinuteLines::new(&self.verb, "images", already_done, Instant::now());
        *self.lines() = Some(lines);
        self.show();
    }

    fn prompt_prepared(&self, done: u64, total: u64) {
        if self.bar.length() != Some(total) {
            let template = "encoding prompts {wide_bar} {pos}/{len}, {rate}, {left} left";
            style(template).into_iter().for_each(|style| self.bar.set_style(style));
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
        self.show();
        let now = Instant::now();
        self.lines().get_or_insert_with(|| MinuteLines::new("encoding", "prompts", done, now));
        if self.bar.is_hidden() {
            self.minute_line(now).iter().for_each(|line| say(line));
        }
    }

    fn image_done(&self, _: &str, _: u32) {
        self.one_more();
    }

    fn image_failed(&self, item: &str, image: u32, reason: &str) {
        self.one_more();
        let count = {
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            *failures += 1;
            *failures
        };
        if count <= SHOWN_FAILURES {
            warn(&format!("{item}, image {image}: {reason}"));
        }
        if count == SHOWN_FAILURES {
            warn("further failures are recorded in the journal and not shown here");
        }
    }

    fn question_cut(&self, item: &str, question: u32, seen: u32, of: u32) {
        let count = {
            let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
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
        warn(&text);
    }

    fn finished(&self) {
        if self.is_stoppable {
            interrupt::work_ends();
        }
        if let Some(live) = self.live.as_ref().filter(|live| live.is_eager)
            && self.bar.is_hidden()
        {
            live.line(Duration::ZERO).iter().for_each(|line| say(line));
        }
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_and_then_images_are_told_of_once_a_minute() {
        let progress = StageProgress::new("generating", None);
        let minute_line = |minutes: u32| progress.minute_line(Instant::now() + MINUTE * minutes);
        assert_eq!(minute_line(1), None);
        progress.prompt_prepared(0, 400);
        progress.prompt_prepared(100, 400);
        let told = minute_line(1).unwrap();
        let has_pace = |told: &str| told.contains("/s, ") && told.ends_with(" min left");
        assert!(told.starts_with("encoding 100/400 prompts, ") && has_pace(&told), "{told}");
        assert_eq!(minute_line(1), None);
        progress.started(1600, 10);
        assert_eq!(minute_line(0), None);
        (0..90).for_each(|image| progress.image_done("item", image));
        let told = minute_line(1).unwrap();
        assert!(told.starts_with("generating 100/1600 images, ") && has_pace(&told), "{told}");
        assert_eq!(minute_line(1), None);
        assert!(minute_line(3).is_some());
        progress.finished();
    }
}
