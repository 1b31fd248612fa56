//! In: a scored run, the sample of its audit and people's labels. Out: how often the judge is right, and the run's figures made
//! right by the labels, with intervals. How it is printed is left to `reports`.

use serde::{Deserialize, Serialize};

use super::draw::Strata;
use super::figures::{Answered, Figure};
use super::labels::Labels;
use super::people::{AnnotatorCounts, AnnotatorPair, People, annotator_counts, annotator_pairs};
use super::population::{JudgedRun, Population};
use super::sample::{AskedFor, AuditSample, SampleError};
use crate::aggregate::Stage;
use crate::results::{BenchmarkIdentity, FORMAT_VERSION, FormatVersion};
use crate::score::RunScore;
use crate::statistics::prediction_powered::{Corrected, Unit, Weight, correct_leaning, stands_for};
use crate::statistics::{Interval, ItemRatio};
use crate::wording::counted;

/// How often an interval is to hold the truth.
pub(super) const LEVEL: f64 = 0.95;
/// Half the length of the interval that labels are counted for, in points.
pub const WANTED_HALF: f64 = 1.0;
/// Fewest labelled answers of a figure that is corrected. docs/measurements/audit.md has how often intervals of so few hold the
/// truth.
pub const FEWEST_LABELS: u64 = 30;
/// Fewest items that these are about.
pub const FEWEST_ITEMS: u64 = 10;
/// What the benchmark score is called among the figures.
pub(super) const SCORE: &str = "DPG-Bench score";
/// What the stored file says that it is.
const KIND: &str = "audit correction";

/// A run with a judge's answers, scored.
#[derive(Debug, Clone, Copy)]
pub struct ScoredRun<'a, 'r> {
    /// The run and the answers that the sample was drawn from.
    pub run: JudgedRun<'a, 'r>,
    /// The items under `corrected`, in the run's order.
    pub corrected: &'r RunScore<'a>,
    /// The items under `soft`, where the judge states P(yes).
    pub soft: Option<&'r RunScore<'a>>,
    /// Other judges of the same run by name, under `corrected`.
    pub others: &'r [(String, RunScore<'a>)],
}

/// Why labels correct nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CorrectionError {
    /// The sample does not belong to the run.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// There are too few.
    #[error(
        "{} of {} can be used, and a corrected score needs {FEWEST_LABELS} of {FEWEST_ITEMS} items: label {} more of the sample, or draw a larger one",
        counted(*labels, "labelled answer"),
        counted(*items, "item"),
        needed(*labels)
    )]
    TooFew {
        /// Labelled answers.
        labels: u64,
        /// Items that they are about.
        items: u64,
    },
    /// Too little is known of what the dependency rule needs.
    #[error(
        "{open} of people's {} to questions that depend on others lack a label of one of those, too many for scores after the \
         dependency rule: label the questions that are asked for the rule as well",
        counted(*all, "yes answer")
    )]
    RuleOpen {
        /// Yes below a question without a label.
        open: u64,
        /// Yes below any question.
        all: u64,
    },
    /// Two runs have no item in common.
    #[error(
        "the audited runs have no item in common; compare runs over the same items of one benchmark"
    )]
    NothingShared,
}

fn needed(labels: u64) -> String {
    counted(FEWEST_LABELS.saturating_sub(labels).max(1), "answer")
}

/// What labels say of a judge and of a run's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Correction {
    /// Version of the file.
    pub format_version: FormatVersion,
    /// `audit correction`.
    pub kind: String,
    /// [`AuditSample::sha256`].
    pub sample_sha256: String,
    /// The judge that is audited.
    pub judge: String,
    /// The benchmark.
    pub benchmark: BenchmarkIdentity,
    /// How often an interval is to hold the truth.
    pub level: f64,
    /// Answers that were drawn.
    pub drawn: u64,
    /// Those to which somebody said yes or no.
    pub labelled: u64,
    /// Those of which all who labelled them said that it cannot be told.
    pub cannot_tell: u64,
    /// People's yes below a question that lacks a label, as far as the dependency rule needs it: they count as other yes below
    /// questions do.
    #[serde(default)]
    pub rule_open: u64,
    /// Who labelled.
    pub annotators: Vec<AnnotatorCounts>,
    /// How far every two of them agree.
    pub annotator_agreement: Vec<AnnotatorPair>,
    /// How often the judge is right: of all questions, then by broad category.
    pub judge_errors: Vec<JudgeErrors>,
    /// The figures before the dependency rule, then after it: the benchmark score, then broad categories.
    pub figures: Vec<CorrectedFigure>,
    /// The judges of the run beside the labels, the one that agrees with people most first.
    pub judges: Vec<JudgeAgainstPeople>,
}

/// A share in percent with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// In percent.
    pub percent: f64,
    /// Lower end of its interval, in percent; absent below two items.
    pub low: Option<f64>,
    /// See `low`.
    pub high: Option<f64>,
    /// Labelled answers that it rests on; those on which annotators differ count in part, so that it need not be whole.
    pub labels: f64,
}

/// How often a judge is right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgeErrors {
    /// `all`, or a broad category.
    pub name: String,
    /// Of what people say yes to, how much the judge does; absent where people say yes to nothing.
    pub sensitivity: Option<Rate>,
    /// Of what people do not say yes to, how much the judge does not either.
    pub specificity: Option<Rate>,
}

/// A corrected figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CorrectedFigure {
    /// `before_rule` or `after_rule`.
    pub stage: RuleStage,
    /// `DPG-Bench score`, or a broad category.
    pub name: String,
    /// By the judge's answers alone, over the answers that could be drawn, in percent.
    pub judge: f64,
    /// By people's labels alone: their weighted share, as if nothing were known of answers that nobody labelled.
    pub labels_alone: Option<CorrectedValue>,
    /// By both, with the judge's words.
    pub corrected: Option<CorrectedValue>,
    /// By both, with the judge's P(yes); absent where it states none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrected_by_probability: Option<CorrectedValue>,
    /// Labelled answers of it, and items that they are about.
    pub labels: u64,
    /// See `labels`.
    pub items: u64,
    /// Labelled answers that it needs more before it is corrected; 0 where it is.
    pub labels_lacking: u64,
    /// Labels in all that would make its interval end one point to either side; absent where no number would, or where there is
    /// no interval.
    pub labels_for_one_point: Option<u64>,
}

/// Which verdicts a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleStage {
    /// Before the dependency rule.
    BeforeRule,
    /// After it.
    AfterRule,
}

impl RuleStage {
    /// Both, in the order of tables.
    pub const ALL: [Self; 2] = [Self::BeforeRule, Self::AfterRule];

    pub(super) fn stage(self) -> Stage {
        match self {
            Self::BeforeRule => Stage::Raw,
            Self::AfterRule => Stage::Conditional,
        }
    }
}

/// A figure with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CorrectedValue {
    /// In percent, within 0..=100.
    pub percent: f64,
    /// Lower end of its interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Standard error, in points.
    pub standard_error: f64,
    /// Weight of the judge's answers, in 0..=1: 0 of labels alone.
    pub judge_weight: f64,
}

impl CorrectedValue {
    pub(super) fn of(corrected: &Corrected) -> Self {
        let Interval { low, high } = corrected.interval(LEVEL);
        Self {
            percent: 100.0 * corrected.value.clamp(0.0, 1.0),
            low: 100.0 * low,
            high: 100.0 * high,
            standard_error: 100.0 * corrected.standard_error,
            judge_weight: corrected.weight,
        }
    }
}

/// A judge beside the labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgeAgainstPeople {
    /// Its name in the run.
    pub judge: String,
    /// Answers that people give too, of all.
    pub agreement: Rate,
    /// See [`JudgeErrors`].
    pub sensitivity: Option<Rate>,
    /// See [`JudgeErrors`].
    pub specificity: Option<Rate>,
    /// Its benchmark score after the rule less the corrected one, in points.
    pub score_less_corrected: f64,
    /// Its agreement less that of the judge that is audited, in points; absent of that one.
    pub agreement_less_audited: Option<Difference>,
}

/// A difference in points with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// In points.
    pub points: f64,
    /// Lower end of its interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Correction {
    /// What the labels of `sample` say of the run.
    ///
    /// # Errors
    /// The sample was drawn from other answers, or too few are labelled.
    pub fn of(
        scored: &ScoredRun<'_, '_>,
        sample: &AuditSample,
        labels: &Labels,
    ) -> Result<Self, CorrectionError> {
        let audited = Audited::of(scored, sample, labels)?;
        let answered = audited.answered();
        let score = answered.units(scored.corrected, Figure::Score, Stage::Conditional);
        let raw = answered.units(scored.corrected, Figure::Score, Stage::Raw);
        let (labelled, items) = labelled(&raw);
        let after = correct_if_enough(&score, &answered.leans(&score, Stage::Conditional))
            .ok_or(CorrectionError::TooFew { labels: labelled, items })?;
        let drawn = sample.count(AskedFor::Sample) as u64;
        let mut names: Vec<Option<&str>> = vec![None];
        names.extend(answered.categories().into_iter().map(Some));
        let figures = RuleStage::ALL.into_iter().flat_map(|stage| {
            let answered = &answered;
            names.iter().map(move |name| figure(scored, answered, stage, *name))
        });
        let errors = |name: &Option<&str>| {
            let errors = Errors::of(&answered, scored.corrected, *name);
            let [sensitivity, specificity] = errors.rates();
            JudgeErrors { name: name.unwrap_or("all").to_owned(), sensitivity, specificity }
        };
        Ok(Self {
            format_version: FORMAT_VERSION,
            kind: KIND.to_owned(),
            sample_sha256: sample.sha256.clone(),
            judge: sample.judge.clone(),
            benchmark: sample.benchmark.clone(),
            level: LEVEL,
            drawn,
            labelled,
            cannot_tell: audited.cannot_tell(sample, labels),
            rule_open: audited.people.open,
            annotators: annotator_counts(labels),
            annotator_agreement: annotator_pairs(labels),
            judge_errors: names.iter().map(errors).collect(),
            figures: figures.collect(),
            judges: judges(scored, &answered, after.value),
        })
    }

    /// The benchmark score after the rule.
    pub fn score(&self) -> Option<&CorrectedFigure> {
        let mut figures = self.figures.iter();
        figures.find(|figure| figure.stage == RuleStage::AfterRule && figure.name == SCORE)
    }
}

/// A sample with its run's population and labels.
pub(super) struct Audited<'a> {
    population: Population<'a>,
    strata: Strata,
    people: People,
}

impl<'a> Audited<'a> {
    pub(super) fn of(
        scored: &ScoredRun<'a, '_>,
        sample: &AuditSample,
        labels: &Labels,
    ) -> Result<Self, CorrectionError> {
        let population = Population::of(sample.unit, &scored.run);
        let strata = sample.strata_of(&population)?;
        let people = People::of(sample, labels, scored.run.items);
        if people.open > 2 * people.closed {
            let (open, all) = (people.open, people.open + people.closed);
            return Err(CorrectionError::RuleOpen { open, all });
        }
        Ok(Self { population, strata, people })
    }

    pub(super) fn answered(&self) -> Answered<'a, '_> {
        let Self { population, strata, people } = self;
        Answered { population, strata, people, only: None }
    }

    /// Drawn questions that are labelled, but never with yes or no.
    fn cannot_tell(&self, sample: &AuditSample, labels: &Labels) -> u64 {
        let mut told = vec![None; sample.questions.len()];
        for label in &labels.labels {
            let is_told = told[label.question].unwrap_or(false) || label.label.is_yes().is_some();
            told[label.question] = Some(is_told);
        }
        let drawn = sample.questions.iter().zip(told);
        let open = |asked: AskedFor, told| asked == AskedFor::Sample && told == Some(false);
        drawn.filter(|(asked, told)| open(asked.asked_for, *told)).count() as u64
    }
}

/// Labelled units that a figure says something of, and the clusters that they are in.
pub(super) fn labelled(units: &[Unit]) -> (u64, u64) {
    let counted = units.iter().filter(|unit| unit.labelled.is_some() && unit.size > 0.0);
    let mut items: Vec<usize> = counted.map(|unit| unit.cluster).collect();
    let labels = items.len() as u64;
    items.sort_unstable();
    items.dedup();
    (labels, items.len() as u64)
}

/// The corrected figure, where it has labels enough.
pub(super) fn correct_if_enough(units: &[Unit], leans: &[f64]) -> Option<Corrected> {
    let (labels, items) = labelled(units);
    let is_enough = labels >= FEWEST_LABELS && items >= FEWEST_ITEMS;
    is_enough.then(|| correct_leaning(units, leans, Weight::Tuned).ok()).flatten()
}

/// One figure, by words and by P(yes).
fn figure(
    scored: &ScoredRun<'_, '_>,
    answered: &Answered<'_, '_>,
    stage: RuleStage,
    category: Option<&str>,
) -> CorrectedFigure {
    let kind = category.map_or(Figure::Score, Figure::Category);
    let units = answered.units(scored.corrected, kind, stage.stage());
    let leans = answered.leans(&units, stage.stage());
    let (labels, items) = labelled(&units);
    let both = correct_if_enough(&units, &leans);
    let alone = both.as_ref().and_then(|_| labels_alone(&units, &leans));
    let by_probability = scored.soft.and_then(|soft| {
        let units = answered.units(soft, kind, stage.stage());
        correct_if_enough(&units, &answered.leans(&units, stage.stage()))
    });
    // Where its items are too few, each item more needs a label more.
    let lacking = FEWEST_LABELS.saturating_sub(labels).max(FEWEST_ITEMS.saturating_sub(items));
    let needed = both.as_ref().and_then(|both| both.labels_for(WANTED_HALF / 100.0, LEVEL));
    let value = |corrected: &Option<Corrected>| corrected.as_ref().map(CorrectedValue::of);
    CorrectedFigure {
        stage,
        name: category.unwrap_or(SCORE).to_owned(),
        judge: 100.0 * share_of_yes(&units),
        labels_alone: alone,
        corrected: value(&both),
        corrected_by_probability: value(&by_probability),
        labels,
        items,
        labels_lacking: if both.is_some() { 0 } else { lacking.max(1) },
        labels_for_one_point: needed.map(|labels| labels.ceil() as u64),
    }
}

/// The weighted share of people's yes among the labelled units, with an interval over their items.
fn labels_alone(units: &[Unit], leans: &[f64]) -> Option<CorrectedValue> {
    let items = units.iter().map(|unit| unit.cluster + 1).max().unwrap_or(0);
    let mut ratio = ItemRatio { numerators: vec![0.0; items], denominators: vec![0.0; items] };
    let mut of_items = vec![0.0; items];
    for (unit, weight) in units.iter().zip(stands_for(units)) {
        ratio.numerators[unit.cluster] += weight * unit.labelled.unwrap_or(0.0);
        ratio.denominators[unit.cluster] += weight * unit.size;
    }
    units.iter().zip(leans).for_each(|(unit, lean)| of_items[unit.cluster] += lean);
    let Interval { low, high } = ratio.interval_leaning(&of_items, LEVEL)?;
    let error = ratio.standard_error_leaning(&of_items)?;
    let [percent, low, high, standard_error] =
        [ratio.value()?, low, high, error].map(|share| 100.0 * share);
    Some(CorrectedValue { percent, low, high, standard_error, judge_weight: 0.0 })
}

fn share_of_yes(units: &[Unit]) -> f64 {
    let (judged, size) =
        units.iter().fold((0.0, 0.0), |(yes, size), unit| (yes + unit.judged, size + unit.size));
    if size > 0.0 { judged / size } else { 0.0 }
}

/// A judge's words beside people's, of each item's labelled answers, each weighted by how many it stands for.
struct Errors {
    /// Per item: people's yes, the judge's of these; people's no, the judge's of these; answers, the equal ones of these.
    ratios: [ItemRatio; 3],
    labels: [f64; 3],
}

impl Errors {
    fn of(answered: &Answered<'_, '_>, score: &RunScore<'_>, category: Option<&str>) -> Self {
        // Of the whole, each answer is one: the score's sizes differ by item.
        let names = category.map_or_else(|| answered.categories(), |name| vec![name]);
        let items = score.items.len();
        let blank = || ItemRatio { numerators: vec![0.0; items], denominators: vec![0.0; items] };
        let mut found = Self { ratios: [blank(), blank(), blank()], labels: [0.0; 3] };
        for name in names {
            let units = answered.units(score, Figure::Category(name), Stage::Raw);
            for (unit, weight) in units.iter().zip(stands_for(&units)) {
                let Some(people) = unit.labelled.filter(|_| unit.size > 0.0) else { continue };
                let judge = unit.judged;
                let right = [people * judge, (1.0 - people) * (1.0 - judge)];
                let parts =
                    [(people, right[0]), (1.0 - people, right[1]), (1.0, right[0] + right[1])];
                for (part, (of, share)) in parts.into_iter().enumerate() {
                    found.ratios[part].denominators[unit.cluster] += weight * of;
                    found.ratios[part].numerators[unit.cluster] += weight * share;
                    found.labels[part] += of;
                }
            }
        }
        found
    }

    fn rate(&self, part: usize) -> Option<Rate> {
        let ratio = &self.ratios[part];
        let interval = ratio.interval(LEVEL);
        Some(Rate {
            percent: 100.0 * ratio.value()?,
            low: interval.map(|interval| 100.0 * interval.low),
            high: interval.map(|interval| 100.0 * interval.high),
            labels: self.labels[part],
        })
    }

    /// Sensitivity and specificity.
    fn rates(&self) -> [Option<Rate>; 2] {
        [self.rate(0), self.rate(1)]
    }

    fn agreement(&self) -> Option<Rate> {
        self.rate(2)
    }
}

/// The audited judge and the others beside the labels, best first.
fn judges(
    scored: &ScoredRun<'_, '_>,
    answered: &Answered<'_, '_>,
    corrected: f64,
) -> Vec<JudgeAgainstPeople> {
    let audited = Errors::of(answered, scored.corrected, None);
    let own = (scored.run.judge, scored.corrected);
    let others = scored.others.iter().map(|(name, score)| (name.as_str(), score));
    let mut judges: Vec<JudgeAgainstPeople> = [own]
        .into_iter()
        .chain(others)
        .filter_map(|(name, score)| {
            let errors = Errors::of(answered, score, None);
            let [sensitivity, specificity] = errors.rates();
            let units = answered.units(score, Figure::Score, Stage::Conditional);
            let less = (name != scored.run.judge).then(|| agreement_less(&errors, &audited));
            Some(JudgeAgainstPeople {
                judge: name.to_owned(),
                agreement: errors.agreement()?,
                sensitivity,
                specificity,
                score_less_corrected: 100.0 * (share_of_yes(&units) - corrected.clamp(0.0, 1.0)),
                agreement_less_audited: less.flatten(),
            })
        })
        .collect();
    judges.sort_by(|a, b| b.agreement.percent.total_cmp(&a.agreement.percent));
    judges
}

/// The difference of two judges' agreement with people over the same labels; `None` below two items, and where one has not answered
/// all that the other has.
fn agreement_less(of: &Errors, less: &Errors) -> Option<Difference> {
    let (of, less) = (&of.ratios[2], &less.ratios[2]);
    if of.denominators != less.denominators {
        return None;
    }
    let numerators = of.numerators.iter().zip(&less.numerators).map(|(a, b)| a - b).collect();
    let both = ItemRatio { numerators, denominators: less.denominators.clone() };
    let (value, error) = (both.value()?, both.standard_error()?);
    let half = error
        * crate::statistics::share_interval::t_quantile(
            (1.0 - LEVEL) / 2.0,
            both.clusters() as f64 - 1.0,
        );
    let [points, low, high] = [value, value - half, value + half].map(|share| 100.0 * share);
    Some(Difference { points, low, high })
}
