//! In: a run's answers. Out: its summary, long table, exported tables and chart in the run directory, or in memory.
//! Nothing is judged again.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, anyhow, bail, ensure};

use super::benchmarks::{benchmark_of_run, selected};
use super::control_scores::chance;
use super::dropped::ToDrop;
use super::work::ensure_merged;
use crate::aggregate::score_table::{AnswerTable, answer_table, score_table};
use crate::aggregate::{JudgeIdentity, Protocol, RunIdentity, Summary, SummaryInput};
use crate::benchmark::{Benchmark, Item};
use crate::near_names::did_you_mean;
use crate::reports::{category_chart, csv_table, latex_table, markdown_table};
use crate::results::atomic_write::atomic_write;
use crate::results::{
    AnswerRecord, BenchmarkIdentity, ImageOutcome, ImageRecord, NewestAnswers, RunDirectory,
};
use crate::score::score_run::in_journal_order;
use crate::score::{RunScore, score_run};

/// Scores `items` of a run by each of the `judges` under each protocol, writes each summary with its tables and
/// chart into the run directory, and returns the summaries in the same order. With `allow_incomplete` there is a
/// benchmark score even where images or answers are missing.
///
/// # Errors
/// A judge has not answered, a journal is damaged, or the disk said no.
pub fn score_judges(
    run: &RunDirectory,
    benchmark: &Benchmark,
    items: &[&Item],
    judges: &[String],
    allow_incomplete: bool,
) -> anyhow::Result<Vec<Summary>> {
    let images = run.read_images()?;
    let per_item = run.manifest().images_per_item;
    let mut summaries = Vec::new();
    for judge in judges {
        let records = run.read_answers(judge)?;
        let answers = NewestAnswers::merge(&records)?;
        let judged = Judged { judge, images: &images, records: &records, answers: &answers };
        let scored = judged.score(run, benchmark, items, allow_incomplete)?;
        let [reference, corrected] = &scored.protocols;
        let table = score_table(items, per_item, &images, &answers, [reference, corrected])
            .context("the table of answers cannot be made")?;
        write_files(run, judge, &scored.summary, &table)?;
        summaries.push(scored.summary);
    }
    Ok(summaries)
}

/// As [`score_judges`] without the questions `dropped`, and nothing is written: what is in the run is the score of all questions.
///
/// # Errors
/// As there.
pub fn score_without(
    run: &RunDirectory,
    benchmark: &Benchmark,
    dropped: &ToDrop,
    judges: &[String],
    allow_incomplete: bool,
) -> anyhow::Result<Vec<Summary>> {
    let benchmark = dropped.apply(benchmark);
    let items = selected(&benchmark, run)?;
    let images = run.read_images()?;
    let mut summaries = Vec::new();
    for judge in judges {
        let records = run.read_answers(judge)?;
        let answers = NewestAnswers::merge(&records)?;
        let judged = Judged { judge, images: &images, records: &records, answers: &answers };
        let mut summary = judged.score(run, &benchmark, &items, allow_incomplete)?.summary;
        summary.dropped_questions = Some(dropped.record(&items));
        summaries.push(summary);
    }
    Ok(summaries)
}

/// The summary of a run by the answers of `judge` (`None`: those of its only judge); nothing is written. `benchmark` says
/// where the benchmark is now, if it is not where it was.
///
/// # Errors
/// The run is not merged, the judge is not there or not the only one, or a journal is damaged.
pub fn scored_run(
    run: &RunDirectory,
    benchmark: Option<&Path>,
    judge: Option<&str>,
    allow_incomplete: bool,
) -> anyhow::Result<Summary> {
    with_scored_run(run, benchmark, judge, allow_incomplete, |whole| whole.scored.summary)
}

/// The table of answers that scoring the run writes to `scores/<judge>.parquet`, in memory; nothing is written. `judge` and
/// `benchmark` are as in [`scored_run`].
///
/// # Errors
/// As there.
pub fn scored_answers(
    run: &RunDirectory,
    benchmark: Option<&Path>,
    judge: Option<&str>,
) -> anyhow::Result<AnswerTable> {
    let per_item = run.manifest().images_per_item;
    with_scored_run(run, benchmark, judge, true, |whole| {
        let [reference, corrected] = &whole.scored.protocols;
        answer_table(whole.items, per_item, whole.images, whole.answers, [reference, corrected])
            .context("the table of answers cannot be made")
    })?
}

/// A scored run with what it was scored from.
pub(crate) struct WholeRun<'a> {
    /// All figures, and the items under each protocol.
    pub scored: Scored<'a>,
    /// The selected items, in benchmark order.
    pub items: &'a [&'a Item],
    /// The image journal.
    pub images: &'a [ImageRecord],
    /// The judge's newest answers.
    pub answers: &'a NewestAnswers<'a>,
}

/// As [`scored_run`], with what `use_it` makes of the scored run.
///
/// # Errors
/// As there.
pub(crate) fn with_scored_run<T>(
    run: &RunDirectory,
    benchmark: Option<&Path>,
    judge: Option<&str>,
    allow_incomplete: bool,
    use_it: impl FnOnce(WholeRun<'_>) -> T,
) -> anyhow::Result<T> {
    ensure_merged(run)?;
    let benchmark = benchmark_of_run(run, benchmark)?;
    let items = selected(&benchmark, run)?;
    let judge = &choose_judge(run, judge)?;
    let (records, images) = (run.read_answers(judge)?, run.read_images()?);
    let answers = NewestAnswers::merge(&records)?;
    let judged = Judged { judge, images: &images, records: &records, answers: &answers };
    let scored = judged.score(run, &benchmark, &items, allow_incomplete)?;
    Ok(use_it(WholeRun { scored, items: &items, images: &images, answers: &answers }))
}

/// What a judge said in a run.
pub struct Judged<'a> {
    /// Name in the run directory.
    pub judge: &'a str,
    /// The image journal.
    pub images: &'a [ImageRecord],
    /// The judge's journal.
    pub records: &'a [AnswerRecord],
    /// The same, newest answers only.
    pub answers: &'a NewestAnswers<'a>,
}

/// A judge's answers, scored.
pub struct Scored<'a> {
    /// All figures.
    pub summary: Summary,
    /// The items under `reference` and under `corrected`.
    pub protocols: [RunScore<'a>; 2],
    /// The items under `soft` and under `soft_tifa_gm`, where the judge states P(yes).
    pub soft: Option<[RunScore<'a>; 2]>,
}

impl Judged<'_> {
    /// `items` under `reference` and under `corrected`, without figures.
    ///
    /// # Errors
    /// The answers are about other pictures than those of the run.
    fn under_both<'i>(
        &self,
        run: &RunDirectory,
        items: &[&'i Item],
    ) -> anyhow::Result<[RunScore<'i>; 2]> {
        check_pictures(self.images, self.answers)?;
        let per_item = run.manifest().images_per_item;
        Ok(Protocol::ALL.map(|protocol| self.under(protocol, items, per_item)))
    }

    /// `items` under `soft` and under `soft_tifa_gm`, without figures; `None` where the judge states no P(yes).
    fn under_soft<'i>(&self, items: &[&'i Item], per_item: u32) -> Option<[RunScore<'i>; 2]> {
        let soft = self.under(Protocol::Soft, items, per_item);
        let means = || self.under(Protocol::SoftTifaGm, items, per_item);
        soft.states_probability().then(|| [soft, means()])
    }

    /// `items` under `protocol`, without figures; `per_item` images were asked for of each.
    pub fn under<'i>(&self, protocol: Protocol, items: &[&'i Item], per_item: u32) -> RunScore<'i> {
        // The script adds item scores up in the order in which it met the files. Answers that came
        // from its log stand in that order; pictures of our own have the benchmark's.
        if protocol == Protocol::Reference && self.images.is_empty() {
            let order = in_journal_order(items, self.records);
            return score_run(&order, self.answers, per_item, protocol);
        }
        score_run(items, self.answers, per_item, protocol)
    }

    /// Scores `items` under each protocol, with all figures.
    ///
    /// # Errors
    /// The answers are about other pictures than those of the run, or a control of the run is damaged.
    pub fn score<'i>(
        &self,
        run: &RunDirectory,
        benchmark: &Benchmark,
        items: &[&'i Item],
        allow_incomplete: bool,
    ) -> anyhow::Result<Scored<'i>> {
        let [reference, corrected] = self.under_both(run, items)?;
        let soft = self.under_soft(items, run.manifest().images_per_item);
        let Self { judge, images, answers, .. } = *self;
        let chance = chance(run, judge, items, images)?;
        let summary = Summary::new(SummaryInput {
            run: run_identity(run, benchmark),
            judge: judge_identity(run, judge),
            items,
            images,
            answers,
            reference: &reference,
            corrected: &corrected,
            soft: soft.as_ref(),
            allow_incomplete,
            chance,
        });
        Ok(Scored { summary, protocols: [reference, corrected], soft })
    }
}

/// The judges named, all of which must have answered; the only one where none is named.
pub fn choose_judges(run: &RunDirectory, named: &[String]) -> anyhow::Result<Vec<String>> {
    let there = run.judges_with_answers()?;
    for name in named {
        check_has_answered(run, name)?;
    }
    match (named, there.as_slice()) {
        ([], [only]) => Ok(vec![only.clone()]),
        ([], []) => Err(nobody_answered(run)),
        ([], _) => {
            let judges = answered_by(&there);
            bail!("{}: {judges}; choose some with --judge (comma list)", run.path().display())
        }
        _ => Ok(named.to_vec()),
    }
}

/// Why no judge can be chosen as asked for, in a run that others have answered in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JudgeFault {
    /// None was named, and several have answered.
    #[error("{run}: {}; choose one with --judge NAME", answered_by(there))]
    Several {
        /// Where.
        run: String,
        /// Who has answered.
        there: Vec<String>,
    },
    /// The one that was named has not answered.
    #[error(
        "{run} has no answers of `{name}`{}; {}",
        did_you_mean(name, there.iter().map(String::as_str)),
        answered_by(there)
    )]
    Unknown {
        /// Where.
        run: String,
        /// As it was asked for.
        name: String,
        /// Who has answered.
        there: Vec<String>,
    },
}

/// The judge named, which must have answered; the only one where none is named.
///
/// # Errors
/// [`JudgeFault`], or nobody has answered.
pub fn choose_judge(run: &RunDirectory, named: Option<&str>) -> anyhow::Result<String> {
    if let Some(name) = named {
        check_has_answered(run, name)?;
        return Ok(name.to_owned());
    }
    match run.judges_with_answers()?.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(nobody_answered(run)),
        several => {
            let run = run.path().display().to_string();
            Err(JudgeFault::Several { run, there: several.to_vec() }.into())
        }
    }
}

fn nobody_answered(run: &RunDirectory) -> anyhow::Error {
    anyhow!(
        "{}: {}; run `dpg-bench judge` first, or give the command that began the run again if it was stopped",
        run.path().display(),
        answered_by(&[])
    )
}

/// # Errors
/// The run has no answers of that judge; the sentence names those that there are.
pub fn check_has_answered(run: &RunDirectory, judge: &str) -> anyhow::Result<()> {
    let there = run.judges_with_answers()?;
    if there.iter().any(|name| name == judge) {
        return Ok(());
    }
    let run = run.path().display().to_string();
    Err(JudgeFault::Unknown { run, name: judge.to_owned(), there }.into())
}

/// Who has answered, for messages.
pub fn answered_by(judges: &[String]) -> String {
    match judges {
        [] => "no judge has answered there yet".to_owned(),
        judges => format!("there are answers of {}", judges.join(", ")),
    }
}

/// An answer about a picture that was since made anew says nothing about the one that is there.
pub fn check_pictures(images: &[ImageRecord], answers: &NewestAnswers<'_>) -> anyhow::Result<()> {
    let mut stored: BTreeMap<(&str, u32), &str> = BTreeMap::new();
    for record in images {
        if let ImageOutcome::Done { pixels_sha256, .. } = &record.outcome {
            stored.insert((&record.item, record.image), pixels_sha256);
        }
    }
    for ((item, image), stored) in stored {
        let judged = answers.image(item, image).and_then(|answers| answers.pixels_sha256());
        ensure!(
            judged.is_none_or(|judged| judged == stored),
            "{item}, image {image}: the answers are about another image than the one in the run; judge it anew under another name"
        );
    }
    Ok(())
}

/// What a summary says of the run.
pub fn run_identity(run: &RunDirectory, benchmark: &Benchmark) -> RunIdentity {
    let manifest = run.manifest();
    let generation = manifest.generation.as_ref().map(|entry| entry.settings.clone());
    let model = generation
        .as_ref()
        .and_then(|settings| settings.get("name").or(settings.get("model"))?.as_str());
    RunIdentity {
        model: model.map(str::to_owned),
        benchmark: BenchmarkIdentity {
            items: benchmark.items.len() as u64,
            ..manifest.benchmark.clone()
        },
        selection: manifest.selection.clone(),
        images_per_item: manifest.images_per_item,
        generation,
    }
}

/// What a summary says of the judge.
pub fn judge_identity(run: &RunDirectory, judge: &str) -> JudgeIdentity {
    let entry = run.manifest().judges.get(judge);
    JudgeIdentity {
        name: judge.to_owned(),
        settings: entry.map(|entry| entry.settings.clone()).unwrap_or_default(),
    }
}

fn write_files(
    run: &RunDirectory,
    judge: &str,
    summary: &Summary,
    table: &[u8],
) -> anyhow::Result<()> {
    let path = run.summary_path(judge)?;
    let mut json = serde_json::to_vec_pretty(summary)?;
    json.push(b'\n');
    let chart = category_chart(summary)
        .map_err(|error| anyhow::anyhow!("the chart cannot be drawn: {error}"))?;
    atomic_write(&run.scores_path(judge)?, table)?;
    let protocols = summary.protocols();
    atomic_write(&path.with_extension("csv"), &csv_table(summary, &protocols)?)?;
    atomic_write(&path.with_extension("md"), markdown_table(summary, &protocols).as_bytes())?;
    atomic_write(&path.with_extension("tex"), latex_table(summary, &protocols).as_bytes())?;
    atomic_write(&path.with_extension("svg"), chart.as_bytes())?;
    atomic_write(&path, &json)?;
    Ok(())
}
