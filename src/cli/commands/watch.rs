//! In: a run that other processes write, in shards or as a whole. Out: how far it is and what it scores so
//! far, again and again. Nothing is written into the run.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::aggregate::benchmark_score::benchmark_score;
use crate::aggregate::readable::unparsable_gap;
use crate::aggregate::{IntervalMethod, Protocol, Shares};
use crate::benchmark::Item;
use crate::reports::printed;
use crate::results::merge::unmerged_shards;
use crate::results::progress::{Gathered, StageCount};
use crate::results::{AnswerOutcome, NewestAnswers, RunDirectory, RunError, RunLock};
use crate::score::score_run;
use crate::session::benchmarks::{benchmark_of_run, selected};

use crate::cli::output::exit_status::ExitStatus;
use crate::cli::output::pace::{MINUTE, pace};
use crate::cli::output::print::{print, say};
use crate::wording::counted;

/// What the part of the images is called.
pub(crate) const IMAGES: &str = "images";

/// Arguments of the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dpg-bench watch results/ella-sd15
  dpg-bench watch results/ella-sd15 >> progress.log     # a look a minute
  dpg-bench watch results/ella-sd15 --once

It ends when every image is there and every judge of the run has answered every
question. The last line says the state of the run.

Exit status: 0 all is done, 2 error, 3 with --once where something is still missing.")]
pub(crate) struct Args {
    /// Run directory
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Seconds between two looks [default: 5 on a terminal, else 60]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    every: Option<u64>,
    /// Print once and exit
    #[arg(long)]
    once: bool,
    /// Where the benchmark is now, if it is not where the run was made with it
    #[arg(long, value_name = "PATH")]
    benchmark: Option<PathBuf>,
}

/// How far a part of the work is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    /// `images`, or a judge's name.
    pub name: String,
    count: StageCount,
    /// What is printed behind the counts.
    pub score: String,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it, in one sentence.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitStatus> {
    let run = RunDirectory::open(&args.run)?;
    let benchmark = benchmark_of_run(&run, args.benchmark.as_deref())?;
    let items = selected(&benchmark, &run)?;
    let is_terminal = std::io::stdout().is_terminal();
    let redraws = is_terminal && !args.once;
    let every = args.every.map_or_else(|| interval(is_terminal), Duration::from_secs);
    let begun = Instant::now();
    let mut first: Option<Vec<Part>> = None;
    let (mut shown, mut has_said) = (0, false);
    loop {
        let parts = look(&args.run, &items)?;
        let state =
            State::of(&parts, is_worked_on(run.path()), || Ok(!unmerged_shards(&run)?.is_empty()))?;
        let is_moving = state == State::InProgress;
        let before = first.get_or_insert_with(|| parts.clone());
        // Nothing is left to wait for where nobody works.
        let elapsed = is_moving.then(|| begun.elapsed());
        let mut lines: Vec<String> = parts.iter().map(|part| line(part, before, elapsed)).collect();
        let done = matches!(state, State::Finished | State::Unmerged);
        if done || args.once || !is_moving {
            lines.push(state.words().to_owned());
        }
        // On a terminal the lines of the last look are written over.
        let up = if redraws && shown > 0 { format!("\x1b[{shown}A\x1b[J") } else { String::new() };
        print(&format!("{up}{}\n", lines.join("\n")))?;
        shown = lines.len();
        if !done && !args.once && !has_said && !is_moving {
            has_said = true;
            say(
                "this command waits until it is stopped, or the run is resumed and finished (--once does not)",
            );
        }
        match (done, args.once) {
            (true, _) => return Ok(ExitStatus::Done),
            (false, true) => return Ok(ExitStatus::Incomplete),
            (false, false) => std::thread::sleep(every),
        }
    }
}

/// Between two looks: in a log one a minute, as the stages have it.
fn interval(is_terminal: bool) -> Duration {
    if is_terminal { ON_A_TERMINAL } else { MINUTE }
}

/// Between two looks on a terminal, where the lines are written over.
const ON_A_TERMINAL: Duration = Duration::from_secs(5);

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Every image is there, and every judge has answered.
    Finished,
    /// The same, and the shards are to be merged.
    Unmerged,
    /// A process works on it.
    InProgress,
    /// Something is missing, and no process works on it.
    Stopped,
    /// Every image is there, and no judge has begun.
    Unjudged,
}

impl State {
    /// `has_new_shards` is asked only where nothing else is left: it reads all journals.
    fn of(
        parts: &[Part],
        is_worked_on: bool,
        has_new_shards: impl FnOnce() -> Result<bool, RunError>,
    ) -> Result<Self, RunError> {
        let complete = parts.iter().all(|part| part.count.is_complete());
        let judged = parts.iter().any(|part| part.name != IMAGES);
        Ok(match (complete, judged) {
            (true, true) if has_new_shards()? => Self::Unmerged,
            (true, true) => Self::Finished,
            _ if is_worked_on => Self::InProgress,
            (true, false) => Self::Unjudged,
            (false, _) => Self::Stopped,
        })
    }

    fn words(self) -> &'static str {
        match self {
            Self::Finished => {
                "finished: every image is there, and every judge has answered every question"
            }
            Self::Unmerged => {
                "finished: every image is there, and every judge has answered; next: `dpg-bench merge RUN` joins the shards"
            }
            Self::InProgress => "in progress: a process works on this run",
            Self::Stopped => {
                "not finished: no process works on this run; the command that made it resumes it (what an import lacks is to be imported)"
            }
            Self::Unjudged => {
                "not judged: every image is there, but no judge has answered; `dpg-bench judge RUN --judge NAME` asks one"
            }
        }
    }
}

/// Whether a process holds the run or one of its shards.
fn is_worked_on(run: &Path) -> bool {
    let shards = std::fs::read_dir(run.join("shards")).into_iter().flatten().flatten();
    let folders = shards.map(|shard| shard.path()).chain([run.to_owned()]);
    folders.into_iter().any(|folder| RunLock::holder(&folder).is_some())
}

/// The images, then each judge of the run.
///
/// # Errors
/// A file of the run cannot be read.
pub(crate) fn look(path: &Path, items: &[&Item]) -> anyhow::Result<Vec<Part>> {
    // Opened anew: a judge or a shard may have begun since.
    let run = RunDirectory::open(path)?;
    let per_item = run.manifest().images_per_item;
    let gathered = Gathered::read(&run)?;
    let mut parts = Vec::new();
    // Answers that came from a log have no pictures, and wait for none.
    let has_images = run.manifest().generation.is_some() || !gathered.images.is_empty();
    if has_images || gathered.answers.is_empty() {
        let count = StageCount::of_images(items, per_item, &gathered.images);
        parts.push(Part { name: IMAGES.to_owned(), count, score: String::new() });
    }
    // A judge that has not answered yet may never do so.
    for (judge, records) in gathered.answers.iter().filter(|(_, records)| !records.is_empty()) {
        parts.push(judged(judge, items, per_item, &NewestAnswers::merge(records)?));
    }
    Ok(parts)
}

/// How far a judge is, and the score of the items that it has answered about in full.
fn judged(judge: &str, items: &[&Item], per_item: u32, answers: &NewestAnswers<'_>) -> Part {
    let answered = |item: &Item, image: u32| {
        let outcome = |question| answers.outcome(&item.id, image, question);
        item.graph
            .questions()
            .iter()
            .all(|question| matches!(outcome(question.id), Some(AnswerOutcome::Answered { .. })))
    };
    let whole: Vec<&Item> = items
        .iter()
        .copied()
        .filter(|item| (0..per_item).all(|image| answered(item, image)))
        .collect();
    let score = score_run(&whole, answers, per_item, Protocol::Corrected);
    let unreadable = unparsable_gap(&score);
    let score = match benchmark_score(&score) {
        None => "no item is whole yet".to_owned(),
        Some(estimate) => {
            let level = IntervalMethod::default().level;
            let estimate = estimate.with_error(&Shares::of(&score).overall, level);
            let (mean, interval) = printed(&estimate);
            let interval = interval.map_or(String::new(), |interval| format!(" {interval}"));
            format!(
                "score so far (corrected) {mean}{interval} ({})",
                counted(estimate.items, "item")
            )
        }
    };
    let score = unreadable.unwrap_or(score);
    Part { name: judge.to_owned(), count: StageCount::of_answers(items, per_item, answers), score }
}

/// `images: 120/4260, 2 failed, 3.5/min, 19 h 42 min left`; without a pace where no time is given.
pub(crate) fn line(part: &Part, before: &[Part], elapsed: Option<Duration>) -> String {
    let StageCount { done, failed, filtered, total } = part.count;
    let mut text = format!("{}: {done}/{total}", part.name);
    if failed > 0 {
        text.push_str(&format!(", {failed} failed"));
    }
    if filtered > 0 {
        text.push_str(&format!(", {filtered} refused by a content filter"));
    }
    let earlier = before.iter().find(|earlier| earlier.name == part.name);
    let fresh = done.saturating_sub(earlier.map_or(0, |earlier| earlier.count.done));
    let left = total.saturating_sub(done);
    text.push_str(&elapsed.map(|elapsed| pace(fresh, left, elapsed)).unwrap_or_default());
    if !part.score.is_empty() {
        text.push_str(&format!("; {}", part.score));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_a_line_a_minute_and_the_last_one_says_the_state() {
        assert_eq!([true, false].map(interval), [5, 60].map(Duration::from_secs));
        let part = |name: &str, done| Part {
            name: name.into(),
            count: StageCount { done, total: 8, failed: 0, filtered: 0 },
            score: String::new(),
        };
        let (all, some) = (part(IMAGES, 8), part(IMAGES, 3));
        let both = [all.clone(), part("mplug", 8)];
        let of = |parts: &[Part], is_worked_on, has_new_shards| {
            State::of(parts, is_worked_on, || Ok(has_new_shards)).unwrap()
        };
        assert_eq!(of(&both, false, true), State::Unmerged);
        assert_eq!(of(&both[..1], false, true), State::Unjudged);
        let (judged, half) = (part("mplug", 8), part("mplug", 4));
        for (parts, is_worked_on, state) in [
            (vec![all.clone(), judged.clone()], false, State::Finished),
            (vec![all.clone(), judged.clone()], true, State::Finished),
            (vec![judged.clone()], false, State::Finished),
            (vec![all.clone(), half.clone()], true, State::InProgress),
            (vec![all.clone(), half, judged], false, State::Stopped),
            (vec![some.clone()], true, State::InProgress),
            (vec![some], false, State::Stopped),
            (vec![all.clone()], true, State::InProgress),
            (vec![all], false, State::Unjudged),
        ] {
            assert_eq!(of(&parts, is_worked_on, false), state, "{parts:?}");
        }
    }

    #[test]
    fn a_line_tells_rate_and_rest() {
        let part = |done, failed, score: &str| Part {
            name: "images".into(),
            count: StageCount { done, total: 4260, failed, filtered: 0 },
            score: score.into(),
        };
        let minute = Duration::from_secs(60);
        let told = line(&part(130, 2, ""), &[part(120, 0, "")], Some(minute));
        assert_eq!(told, "images: 130/4260, 2 failed, 10.0/min, 6 h 53 min left");
        // Nothing new, and nothing left.
        assert_eq!(
            line(&part(120, 0, "s"), &[part(120, 0, "")], Some(minute)),
            "images: 120/4260; s"
        );
        assert_eq!(line(&part(4260, 0, ""), &[part(1, 0, "")], Some(minute)), "images: 4260/4260");
    }
}
