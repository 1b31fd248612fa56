//! In: run directories. Out: them scored under a protocol, ready to be compared.

use std::borrow::Cow;
use std::path::Path;

use super::benchmarks::{benchmark_of_run, selected};
use super::scoring::{Judged, check_pictures, choose_judge, judge_identity, run_identity};
use super::work::ensure_merged;
use crate::aggregate::category_figures::count_raw;
use crate::aggregate::readable::{unparsable_gap, without_unparsable};
use crate::aggregate::{Baseline, Coverage, NoProbability, Protocol};
use crate::benchmark::Benchmark;
use crate::results::{AnswerRecord, ImageRecord, NewestAnswers, RunDirectory};
use crate::score::Verdict;

/// A run directory scored under `protocol`, ready to be compared.
///
/// # Errors
/// It is no run, its judge is not there or not the only one, a journal is damaged, or the protocol needs P(yes), which the
/// judge does not state.
pub(crate) fn scored_baseline(
    path: &Path,
    benchmark: Option<&Path>,
    judge: Option<&str>,
    protocol: Protocol,
) -> anyhow::Result<Baseline> {
    ReadRun::new(path, benchmark, judge)?.baseline(protocol)
}

/// The same under each of [`Protocol::SOFT`]; `None` where the judge states no P(yes).
///
/// # Errors
/// As there.
pub(crate) fn soft_baselines(
    path: &Path,
    benchmark: Option<&Path>,
    judge: Option<&str>,
) -> anyhow::Result<Option<[Baseline; 2]>> {
    let read = ReadRun::new(path, benchmark, judge)?;
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
}

impl ReadRun {
    fn new(path: &Path, benchmark: Option<&Path>, judge: Option<&str>) -> anyhow::Result<Self> {
        let run = RunDirectory::open(path)?;
        ensure_merged(&run)?;
        let benchmark = benchmark_of_run(&run, benchmark)?;
        selected(&benchmark, &run)?;
        let judge = choose_judge(&run, judge)?;
        let (records, images) = (run.read_answers(&judge)?, run.read_images()?);
        Ok(Self { run, benchmark, judge, records, images })
    }

    fn baseline(&self, protocol: Protocol) -> anyhow::Result<Baseline> {
        let Self { run, benchmark, judge, records, images } = self;
        let items = selected(benchmark, run)?;
        let per_item = run.manifest().images_per_item;
        let unreadable_answers = {
            let answers = NewestAnswers::merge(records)?;
            check_pictures(images, &answers)?;
            let judged = Judged { judge, images, records, answers: &answers };
            let score = judged.under(protocol, &items, per_item);
            if protocol.is_soft() && !score.states_probability() {
                return Err(NoProbability { judge: judge.clone(), protocol }.into());
            }
            // Where they are too many for a score; else none.
            unparsable_gap(&score).map_or(0, |_| count_raw(&score, Verdict::Unparsable))
        };
        let records = match unreadable_answers {
            0 => Cow::Borrowed(records),
            _ => Cow::Owned(without_unparsable(records.clone(), protocol)),
        };
        let answers = NewestAnswers::merge(&records)?;
        let judged = Judged { judge, images, records: &records, answers: &answers };
        let corrected = judged.under(Protocol::Corrected, &items, per_item);
        let all = benchmark.items.len() as u64;
        let coverage = Coverage::count(all, &items, per_item, images, &answers, &corrected);
        let counts = (coverage.questions_answered, coverage.questions_expected);
        let score = match protocol {
            Protocol::Corrected => corrected,
            _ => judged.under(protocol, &items, per_item),
        };
        let (run, judge) = (run_identity(run, benchmark), judge_identity(run, judge));
        Ok(Baseline { unreadable_answers, ..Baseline::of(run, judge, &score, counts) })
    }
}
