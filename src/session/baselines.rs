//! In: run directories. Out: them scored under a protocol, ready to be compared.

use std::path::Path;

use super::benchmarks::{benchmark_of_run, selected};
use super::dropped::ToDrop;
use super::scoring::{Judged, check_pictures, choose_judge, judge_identity, run_identity};
use super::work::ensure_merged;
use crate::aggregate::readable::{Withheld, unparsable_gap};
use crate::aggregate::{Baseline, Coverage, NoProbability, Protocol};
use crate::benchmark::Benchmark;
use crate::results::{AnswerRecord, ImageRecord, NewestAnswers, RunDirectory};

/// A run directory scored under `protocol`, ready to be compared; `dropped` names the file of questions that count nowhere.
///
/// # Errors
/// It is no run, its judge is not there or not the only one, a journal is damaged, or the protocol needs P(yes), which the
/// judge does not state. Also [`Withheld`].
pub(crate) fn scored_baseline(
    path: &Path,
    benchmark: Option<&Path>,
    judge: Option<&str>,
    dropped: Option<&Path>,
    protocol: Protocol,
) -> anyhow::Result<Baseline> {
    ReadRun::new(path, benchmark, judge, dropped)?.baseline(protocol)
}

/// The same under each of [`Protocol::SOFT`]; `None` where the judge states no P(yes).
///
/// # Errors
/// As there.
pub(crate) fn soft_baselines(
    path: &Path,
    benchmark: Option<&Path>,
    judge: Option<&str>,
    dropped: Option<&Path>,
) -> anyhow::Result<Option<[Baseline; 2]>> {
    let read = ReadRun::new(path, benchmark, judge, dropped)?;
    let [soft, means] = Protocol::SOFT.map(|protocol| read.baseline(protocol));
    match soft {
        Err(error) if error.is::<NoProbability>() => Ok(None),
        soft => Ok(Some([soft?, means?])),
    }
}

/// What a baseline is made of.
struct ReadRun {
    run: RunDirectory,
    benchmark: Benchmark,
    judge: String,
    records: Vec<AnswerRecord>,
    images: Vec<ImageRecord>,
    dropped: Option<ToDrop>,
}

impl ReadRun {
    fn new(
        path: &Path,
        benchmark: Option<&Path>,
        judge: Option<&str>,
        dropped: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let run = RunDirectory::open(path)?;
        ensure_merged(&run)?;
        let whole = benchmark_of_run(&run, benchmark)?;
        let dropped = dropped.map(|file| ToDrop::read(file, &whole)).transpose()?;
        let benchmark = dropped.as_ref().map_or(whole.clone(), |dropped| dropped.apply(&whole));
        selected(&benchmark, &run)?;
        let judge = choose_judge(&run, judge)?;
        let (records, images) = (run.read_answers(&judge)?, run.read_images()?);
        Ok(Self { run, benchmark, judge, records, images, dropped })
    }

    fn baseline(&self, protocol: Protocol) -> anyhow::Result<Baseline> {
        let Self { run, benchmark, judge, records, images, dropped } = self;
        let items = selected(benchmark, run)?;
        let per_item = run.manifest().images_per_item;
        let answers = NewestAnswers::merge(records)?;
        check_pictures(images, &answers)?;
        let judged = Judged { judge, images, records, answers: &answers };
        let score = judged.under(protocol, &items, per_item);
        if protocol.is_soft() && !score.states_probability() {
            return Err(NoProbability { judge: judge.clone(), protocol }.into());
        }
        if let Some(gap) = unparsable_gap(&score) {
            return Err(Withheld { run: run.path().display().to_string(), gap }.into());
        }
        let corrected = judged.under(Protocol::Corrected, &items, per_item);
        let all = benchmark.items.len() as u64;
        let coverage = Coverage::count(all, &items, per_item, images, &answers, &corrected);
        let counts = (coverage.questions_answered, coverage.questions_expected);
        let (run, judge) = (run_identity(run, benchmark), judge_identity(run, judge));
        let dropped = dropped.as_ref().map(|dropped| dropped.record(&items));
        Ok(Baseline { dropped_questions: dropped, ..Baseline::of(run, judge, &score, counts) })
    }
}
