//! In: a run scored under each protocol. Out: `summary/<judge>.json`: every figure with its counts,
//! what the run covers, and what made it. It holds no time and no machine, so that scoring again
//! writes the same bytes.

use serde::{Deserialize, Serialize};

use crate::benchmark::Item;
use crate::results::{
    BenchmarkIdentity, FORMAT_VERSION, FormatVersion, ImageRecord, NewestAnswers, Settings,
};
use crate::score::{Protocol, RunScore, Verdict};

use super::benchmark_score::benchmark_score;
use super::category_figures::{CategoryFigure, category_figures, count_raw};
use super::control_figures::Chance;
use super::coverage::{Coverage, DroppedItem, dropped_items};
use super::dropped_questions::DroppedQuestions;
use super::estimate::Estimate;
use super::image_spread::ScoreSpread;
use super::readable::unparsable_gap;
use super::shares::{Shares, Stage};

/// `summary/<judge>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of the file.
    pub format_version: FormatVersion,
    /// What was scored.
    pub run: RunIdentity,
    /// Who answered.
    pub judge: JudgeIdentity,
    /// How much of it is there.
    pub coverage: Coverage,
    /// How the intervals of the figures were made; absent from files of earlier versions.
    #[serde(default)]
    pub intervals: Option<IntervalMethod>,
    /// Figures as the reference script computes them in one process.
    pub reference: ProtocolSummary,
    /// Figures over all questions and images, dependencies in topological order.
    pub corrected: ProtocolSummary,
    /// As `corrected`, but a question counts with the judge's P(yes); absent where the judge states none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft: Option<ProtocolSummary>,
    /// Soft-TIFA's geometric mean of P(yes), which has no categories; absent as `soft`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_tifa_gm: Option<ProtocolSummary>,
    /// What the score would be if the images did not fit the prompts; absent where the judge was not asked (`control`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chance: Option<Chance>,
    /// Which questions the user had left out; absent where none were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_questions: Option<DroppedQuestions>,
}

/// A judge that states no P(yes) has no score made of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the answers of `{judge}` state no P(yes), so there is no score under {}; there is one under corrected and reference",
    protocol.name()
)]
pub struct NoProbability {
    /// Name of the judge in the run.
    pub judge: String,
    /// The protocol that was asked for.
    pub protocol: Protocol,
}

/// How intervals were made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct IntervalMethod {
    /// How often an interval is to hold the truth.
    pub level: f64,
    /// How its ends are found.
    #[serde(default)]
    pub method: IntervalKind,
}

/// How the ends of an interval are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalKind {
    /// The middle share of figures over items drawn with replacement: files of earlier versions.
    #[default]
    Bootstrap,
    /// [`ItemRatio::interval`](crate::statistics::item_ratio::ItemRatio::interval).
    KornGraubard,
}

impl Default for IntervalMethod {
    fn default() -> Self {
        Self { level: 0.95, method: IntervalKind::KornGraubard }
    }
}

/// What was scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunIdentity {
    /// The model, as the generation settings name it; absent for imported answers.
    pub model: Option<String>,
    /// Settings of the generation or import; absent where answers came without pictures.
    pub generation: Option<Settings>,
    /// The benchmark.
    pub benchmark: BenchmarkIdentity,
    /// How its items were selected.
    pub selection: Settings,
    /// Images per item.
    pub images_per_item: u32,
}

impl RunIdentity {
    /// What the server that made the images makes of seeds, as `generate` found it out; `None` for other models.
    pub fn seeds(&self) -> Option<&str> {
        self.generation.as_ref()?.get("seeds")?.as_str()
    }

    /// `images of a server (vllm-omni), seeds: repeats`; `None` for other models.
    pub fn server_note(&self) -> Option<String> {
        let api = self.generation.as_ref()?.get("server_api")?.as_str()?;
        Some(match self.seeds() {
            Some(word) => format!("images of a server ({api}), seeds: {word}"),
            None => format!("images of a server ({api})"),
        })
    }
}

/// Who answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgeIdentity {
    /// Name in the run directory.
    pub name: String,
    /// Everything that can change an answer.
    pub settings: Settings,
}

/// The figures of one protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProtocolSummary {
    /// The benchmark score: the mean of the items' scores in percent, with the questions (one per
    /// image, after the dependency rule) behind it. Items weigh the same however many questions they
    /// have, so it is not `k / n`. Absent where it is withheld or nothing was scored.
    pub overall: Option<Estimate>,
    /// Why the benchmark score is withheld, or, where it was asked for all the same, what it lacks.
    pub gap: Option<String>,
    /// Items with a score.
    pub items_scored: u64,
    /// Where the score's error bar comes from; absent below two items, and from files of earlier
    /// versions.
    #[serde(default)]
    pub spread: Option<ScoreSpread>,
    /// Items without, in scoring order.
    pub dropped: Vec<DroppedItem>,
    /// Broad categories, in table order.
    pub l1: Vec<CategoryFigure>,
    /// Detailed categories, in table order.
    pub l2: Vec<CategoryFigure>,
}

/// What a summary is made from.
pub struct SummaryInput<'a> {
    /// What was scored.
    pub run: RunIdentity,
    /// Who answered.
    pub judge: JudgeIdentity,
    /// The selected items.
    pub items: &'a [&'a Item],
    /// The image journal; empty where answers came without pictures.
    pub images: &'a [ImageRecord],
    /// The answers.
    pub answers: &'a NewestAnswers<'a>,
    /// The run under `reference`.
    pub reference: &'a RunScore<'a>,
    /// The run under `corrected`.
    pub corrected: &'a RunScore<'a>,
    /// The run under `soft` and under `soft_tifa_gm`, where the judge states P(yes).
    pub soft: Option<&'a [RunScore<'a>; 2]>,
    /// Whether a benchmark score over incomplete coverage may stand.
    pub allow_incomplete: bool,
    /// What the judge said of images that do not fit the questions, where it was asked.
    pub chance: Option<Chance>,
}

impl Summary {
    /// Puts the figures together.
    pub fn new(input: SummaryInput<'_>) -> Self {
        let mut coverage = Coverage::count(
            input.run.benchmark.items,
            input.items,
            input.run.images_per_item,
            input.images,
            input.answers,
            input.corrected,
        );
        let intervals = IntervalMethod::default();
        if let Some([soft, _]) = input.soft {
            coverage.answers_without_probability = count_raw(soft, Verdict::Unparsable);
        }
        let of =
            |score| ProtocolSummary::new(score, &coverage, input.allow_incomplete, intervals.level);
        let (reference, corrected) = rayon::join(|| of(input.reference), || of(input.corrected));
        let [soft, soft_tifa_gm] = [0, 1].map(|place| Some(of(&input.soft?[place])));
        Self {
            format_version: FORMAT_VERSION,
            intervals: Some(intervals),
            reference,
            corrected,
            soft,
            soft_tifa_gm,
            chance: input.chance,
            dropped_questions: None,
            run: input.run,
            judge: input.judge,
            coverage,
        }
    }

    /// The figures of one protocol; none under those of P(yes) where the judge states none.
    pub fn protocol(&self, protocol: Protocol) -> &ProtocolSummary {
        static NONE: ProtocolSummary = ProtocolSummary::NONE;
        match protocol {
            Protocol::Reference => &self.reference,
            Protocol::Corrected => &self.corrected,
            Protocol::Soft => self.soft.as_ref().unwrap_or(&NONE),
            Protocol::SoftTifaGm => self.soft_tifa_gm.as_ref().unwrap_or(&NONE),
        }
    }

    /// The protocols that it has, in the order in which they are printed.
    pub fn protocols(&self) -> Vec<Protocol> {
        let soft = Protocol::SOFT.into_iter().filter(|_| self.soft.is_some());
        Protocol::ALL.into_iter().chain(soft).collect()
    }

    /// That there are figures under `protocol`.
    ///
    /// # Errors
    /// It needs P(yes), which the judge does not state.
    pub fn ensure_has(&self, protocol: Protocol) -> Result<(), NoProbability> {
        match self.protocols().contains(&protocol) {
            true => Ok(()),
            false => Err(NoProbability { judge: self.judge.name.clone(), protocol }),
        }
    }

    /// Names and estimates of a protocol's categories, the broad ones first: before the dependency rule under `reference`,
    /// after it under `corrected` and `soft`. `None` where nothing counts.
    pub fn categories(&self, protocol: Protocol) -> impl Iterator<Item = (&str, Option<Estimate>)> {
        let (own, stage) = (self.protocol(protocol), Stage::of_categories(protocol));
        own.l1.iter().chain(&own.l2).map(move |figure| (figure.name.as_str(), figure.at(stage)))
    }
}

impl ProtocolSummary {
    const NONE: Self = Self {
        overall: None,
        gap: None,
        items_scored: 0,
        spread: None,
        dropped: Vec::new(),
        l1: Vec::new(),
        l2: Vec::new(),
    };

    /// Whether the benchmark score is absent because images or answers are. A complete run of which the rules
    /// drop every item has none to withhold.
    pub fn is_withheld(&self) -> bool {
        self.overall.is_none() && self.gap.is_some()
    }

    fn new(score: &RunScore<'_>, coverage: &Coverage, allow_incomplete: bool, level: f64) -> Self {
        let dropped = dropped_items(score);
        let gap = coverage.gap(score.protocol, &dropped).or_else(|| unparsable_gap(score));
        let shares = Shares::of(score);
        let (l1, l2) = category_figures(&shares, level);
        let with_error = |estimate: Estimate| estimate.with_error(&shares.overall, level);
        let items_scored = (score.items.len() - dropped.len()) as u64;
        let overall = benchmark_score(score).filter(|_| gap.is_none() || allow_incomplete);
        let overall = overall.map(with_error);
        let spread = ScoreSpread::of(score);
        Self { overall, gap, items_scored, spread, dropped, l1, l2 }
    }
}
