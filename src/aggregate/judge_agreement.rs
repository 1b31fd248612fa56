//! In: the answers of several judges about the same pictures, and the summary of each. Out: how far
//! every two of them agree, by category and item, and how far apart their scores are. How that looks
//! on paper is left to `reports`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::category_order::table_order;
use super::ensemble::{EnsembleScore, ensembles};
use super::estimate::Estimate;
use super::probability_agreement::ProbabilityAgreement;
use super::summary::{IntervalMethod, JudgeIdentity, RunIdentity, Summary};
use crate::benchmark::Item;
use crate::results::{FormatVersion, NewestAnswers};
use crate::score::{Protocol, RunScore, Verdict, answer_grid};
use crate::statistics::{Bootstrap, Interval, ItemRatio, Pair, PermutationTest, TwoByTwo};

/// Version of `agreement.json`; 1.1 added the ensembles and P(yes) of pairs.
const AGREEMENT_VERSION: FormatVersion = FormatVersion { major: 1, minor: 1 };

/// How the judges of a run compare.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct AgreementReport {
    /// Version of the file.
    pub format_version: FormatVersion,
    /// What was judged.
    pub run: RunIdentity,
    /// How the intervals of shares and scores were made.
    pub intervals: IntervalMethod,
    /// How often the items were drawn for the intervals of kappa, and the judges swapped for those of the
    /// differences of scores.
    pub draws: u64,
    /// Where the random numbers of both began.
    pub seed: u64,
    /// The judges with their scores, in the order asked for.
    pub judges: Vec<JudgeScore>,
    /// What all of them score together.
    pub ensembles: Vec<EnsembleScore>,
    /// Every two of them, the earlier one first.
    pub pairs: Vec<PairAgreement>,
}

/// A judge with the benchmark scores that it gives.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct JudgeScore {
    /// Who answered.
    pub judge: JudgeIdentity,
    /// Under `reference`, as `score` computes it; absent where it is withheld.
    pub reference: Option<Estimate>,
    /// Under `corrected`.
    pub corrected: Option<Estimate>,
    /// What is missing for a score, by protocol.
    pub gaps: BTreeMap<&'static str, String>,
}

impl JudgeScore {
    /// The score under a protocol of yes and no.
    pub(crate) fn score(&self, protocol: Protocol) -> Option<Estimate> {
        match protocol {
            Protocol::Reference => self.reference,
            Protocol::Corrected => self.corrected,
            Protocol::Soft | Protocol::SoftTifaGm => None,
        }
    }
}

/// Two judges beside each other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PairAgreement {
    /// The first judge's name.
    pub first: String,
    /// The second judge's name.
    pub second: String,
    /// Over all questions.
    pub overall: CategoryAgreement,
    /// By broad category, in table order.
    pub l1: Vec<CategoryAgreement>,
    /// The first judge's score less the second's, in points, by protocol; no entry where one of the
    /// two is withheld.
    pub score_differences: BTreeMap<&'static str, ScoreDifference>,
    /// Their P(yes); absent where there is no question of which both state one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probabilities: Option<ProbabilityAgreement>,
    /// Items over which they disagree.
    pub items_in_dispute: u64,
    /// The items with the most disagreements: most first, at equal numbers the larger share first,
    /// then in benchmark order. As many as were asked for.
    pub worst: Vec<ItemDispute>,
}

/// How much higher one judge scores a run than another, in points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct ScoreDifference {
    /// The first judge's score less the second's.
    pub points: f64,
    /// Ends of its interval and its two-sided p-value, by swapping the judges item by item; absent where
    /// they did not score the same items.
    pub low: Option<f64>,
    /// See `low`.
    pub high: Option<f64>,
    /// See `low`.
    pub p: Option<f64>,
}

/// Answers of two judges to the questions of a category, one per image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct CategoryAgreement {
    /// L1 name, or `all`.
    pub name: String,
    /// Questions that both answered, whatever they said.
    pub answered: u64,
    /// Of these, those where one of them (or both) said neither yes nor no. They enter no figure.
    pub unparsable: u64,
    /// Both said yes.
    pub yes_yes: u64,
    /// The first said yes, the second no.
    pub yes_no: u64,
    /// The first said no, the second yes.
    pub no_yes: u64,
    /// Both said no.
    pub no_no: u64,
    /// Share of equal answers in percent, with its error bar over items: `k` equal ones of `n` where both
    /// said yes or no. Absent where there is no such question.
    pub agreement: Option<Estimate>,
    /// Cohen's kappa over the same `n`; absent where it is undefined ([`TwoByTwo::kappa`]).
    pub kappa: Option<f64>,
    /// Lower end of its interval, by a bootstrap of whole items; absent below two items.
    pub kappa_low: Option<f64>,
    /// Upper end of it.
    pub kappa_high: Option<f64>,
}

/// An item over which two judges disagree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ItemDispute {
    /// Item identifier.
    pub item: String,
    /// Questions, one per image, to which one said yes and the other no.
    pub disagreed: u64,
    /// Questions to which both said yes or no.
    pub compared: u64,
    /// The questions in dispute, in file order.
    pub questions: Vec<QuestionDispute>,
}

/// A question over which two judges disagree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct QuestionDispute {
    /// Number inside the item.
    pub question: u32,
    /// The question.
    pub text: String,
    /// Images about which only the first judge said yes.
    pub first_yes: Vec<u32>,
    /// Images about which only the second judge said yes.
    pub second_yes: Vec<u32>,
}

/// A judge's summary with the answers behind it.
pub(crate) struct JudgedSummary<'a> {
    /// The figures, as `score` computes them.
    pub summary: Summary,
    /// The items under both protocols, in the order of [`Protocol::ALL`].
    pub scores: [RunScore<'a>; 2],
    /// The answers.
    pub answers: &'a NewestAnswers<'a>,
}

impl AgreementReport {
    /// Compares every two of `judges` over `items`, and lists up to `worst` items for each pair. Yes
    /// and no are read as under `corrected`: blanks and letter case do not matter.
    pub(crate) fn new(
        run: RunIdentity,
        judges: &[JudgedSummary<'_>],
        items: &[&Item],
        worst: usize,
    ) -> Self {
        let images = run.images_per_item;
        let scores: Vec<JudgeScore> =
            judges.iter().map(|judge| judge_score(&judge.summary)).collect();
        let mut pairs = Vec::new();
        for second in 1..judges.len() {
            for first in 0..second {
                let mut found = pair([&judges[first], &judges[second]], items, images, worst);
                let [first, second] = [first, second].map(|judge| (&scores[judge], &judges[judge]));
                found.score_differences = Protocol::ALL
                    .into_iter()
                    .filter_map(|protocol| {
                        Some((protocol.name(), score_difference(first, second, protocol)?))
                    })
                    .collect();
                pairs.push(found);
            }
        }
        // By the first judge, then by the second, as the judges were named.
        let place = |name: &str| scores.iter().position(|score| score.judge.name == name);
        pairs.sort_by_key(|pair| (place(&pair.first), place(&pair.second)));
        let Bootstrap { draws, seed, level } = Bootstrap::default();
        let answers: Vec<&NewestAnswers<'_>> = judges.iter().map(|judge| judge.answers).collect();
        let all_state = judges.iter().all(|judge| judge.summary.soft.is_some());
        let ensembles = ensembles(&answers, items, images, all_state, level);
        Self {
            format_version: AGREEMENT_VERSION,
            run,
            intervals: IntervalMethod { level, ..IntervalMethod::default() },
            draws: draws as u64,
            seed,
            judges: scores,
            ensembles,
            pairs,
        }
    }
}

fn judge_score(summary: &Summary) -> JudgeScore {
    let gap = |protocol: Protocol| Some((protocol.name(), summary.protocol(protocol).gap.clone()?));
    JudgeScore {
        judge: summary.judge.clone(),
        reference: summary.reference.overall,
        corrected: summary.corrected.overall,
        gaps: Protocol::ALL.into_iter().filter_map(gap).collect(),
    }
}

/// The first judge's score less the second's; `None` where either is withheld.
fn score_difference(
    (first, of_first): (&JudgeScore, &JudgedSummary<'_>),
    (second, of_second): (&JudgeScore, &JudgedSummary<'_>),
    protocol: Protocol,
) -> Option<ScoreDifference> {
    let points = first.score(protocol)?.mean - second.score(protocol)?.mean;
    let place = Protocol::ALL.iter().position(|&other| other == protocol)?;
    let scored = |judged: &JudgedSummary<'_>| -> BTreeMap<String, f64> {
        let items = judged.scores[place].items.iter();
        let scored = items
            .filter_map(|item| Some((item.item.id.clone(), *item.outcome.score.as_ref().ok()?)));
        scored.collect()
    };
    let (a, b) = (scored(of_first), scored(of_second));
    let answers = of_first.scores[place].items.iter().map(|item| {
        item.outcome.images.iter().map(|image| image.ruled.len()).sum::<usize>() as f64
    });
    let step = 1.0 / answers.fold(1.0, f64::max);
    let swaps = a.keys().eq(b.keys()).then(|| {
        let [a, b] = [a, b].map(|scores| ItemRatio::mean_of(scores.into_values().map(Some)));
        PermutationTest::default().swaps(&[Pair { a: &a, b: &b, step }]).pop().flatten()
    });
    let swaps = swaps.flatten().filter(|_| first.score(protocol).is_some_and(|s| s.items > 1));
    let interval = swaps.as_ref().map(|swaps| swaps.interval(Bootstrap::default().level, 0.0));
    Some(ScoreDifference {
        points,
        low: interval.map(|interval| 100.0 * interval.low),
        high: interval.map(|interval| 100.0 * interval.high),
        p: swaps.map(|swaps| swaps.p()),
    })
}

/// Counts of a category while they are taken.
#[derive(Debug, Clone)]
struct Tally {
    table: TwoByTwo,
    unparsable: u64,
    /// Of each item: how often both said yes, the first alone, the second alone, and neither.
    by_item: [Vec<f64>; 4],
}

impl Tally {
    fn new(items: usize) -> Self {
        let by_item = [(); 4].map(|()| vec![0.0; items]);
        Self { table: TwoByTwo::default(), unparsable: 0, by_item }
    }

    fn add(&mut self, item: usize, said: Option<(bool, bool)>) {
        let Some((first, second)) = said else {
            self.unparsable += 1;
            return;
        };
        self.table.add(first, second);
        self.by_item[2 * usize::from(!first) + usize::from(!second)][item] += 1.0;
    }

    /// Of each item: equal answers, and compared ones.
    fn agreed(&self) -> ItemRatio {
        let [yes_yes, yes_no, no_yes, no_no] = &self.by_item;
        let sum =
            |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a + b).collect() };
        let numerators = sum(yes_yes, no_no);
        let denominators = sum(&numerators, &sum(yes_no, no_yes));
        ItemRatio { numerators, denominators }
    }

    fn agreement(&self, name: &str, kappa: Option<Interval>, level: f64) -> CategoryAgreement {
        let TwoByTwo { yes_yes, yes_no, no_yes, no_no } = self.table;
        CategoryAgreement {
            name: name.to_owned(),
            answered: self.table.total() + self.unparsable,
            unparsable: self.unparsable,
            yes_yes,
            yes_no,
            no_yes,
            no_no,
            agreement: Estimate::of_ratio(&self.agreed(), level),
            kappa: self.table.kappa(),
            kappa_low: kappa.map(|interval| interval.low),
            kappa_high: kappa.map(|interval| interval.high),
        }
    }
}

fn pair(
    [first, second]: [&JudgedSummary<'_>; 2],
    items: &[&Item],
    images: u32,
    worst: usize,
) -> PairAgreement {
    let answers = [first.answers, second.answers];
    let mut overall = Tally::new(items.len());
    let mut l1: BTreeMap<&str, Tally> = BTreeMap::new();
    let mut disputes = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let [of_first, of_second] = answers.map(|answers| answer_grid(item, images, answers));
        let mut dispute =
            ItemDispute { item: item.id.clone(), disagreed: 0, compared: 0, questions: Vec::new() };
        for (position, question) in item.graph.questions().iter().enumerate() {
            let mut by_image = QuestionDispute {
                question: question.id,
                text: question.text.clone(),
                first_yes: Vec::new(),
                second_yes: Vec::new(),
            };
            for image in 0..images as usize {
                let verdicts = [&of_first, &of_second]
                    .map(|grid| Verdict::of(grid[image][position], Protocol::Corrected));
                if verdicts.contains(&Verdict::Missing) {
                    continue;
                }
                let said = yes_or_no(verdicts[0]).zip(yes_or_no(verdicts[1]));
                overall.add(index, said);
                let category = l1.entry(question.category.l1());
                category.or_insert_with(|| Tally::new(items.len())).add(index, said);
                dispute.compared += u64::from(said.is_some());
                match said {
                    Some((true, false)) => by_image.first_yes.push(image as u32),
                    Some((false, true)) => by_image.second_yes.push(image as u32),
                    _ => {}
                }
            }
            let disagreed = by_image.first_yes.len() + by_image.second_yes.len();
            if disagreed > 0 {
                dispute.disagreed += disagreed as u64;
                dispute.questions.push(by_image);
            }
        }
        if dispute.disagreed > 0 {
            disputes.push(dispute);
        }
    }
    let items_in_dispute = disputes.len() as u64;
    // Of two items with as many disagreements, the one with fewer questions is the worse.
    disputes.sort_by_key(|dispute| (std::cmp::Reverse(dispute.disagreed), dispute.compared));
    disputes.truncate(worst);
    let mut tallies: Vec<(&str, Tally)> = l1.into_iter().collect();
    tallies.sort_by(|(a, _), (b, _)| table_order(a, b));
    tallies.insert(0, ("all", overall));
    let tables: Vec<([&[f64]; 4], usize)> = tallies
        .iter()
        .map(|(_, tally)| (tally.by_item.each_ref().map(Vec::as_slice), tally.agreed().clusters()))
        .collect();
    let bootstrap = Bootstrap::default();
    let intervals = bootstrap.intervals(&tables, |sums| TwoByTwo::of_sums(sums)?.kappa());
    let mut rows: Vec<CategoryAgreement> = tallies
        .iter()
        .zip(intervals)
        .map(|((name, tally), kappa)| {
            let kappa = kappa.filter(|_| tally.table.kappa().is_some());
            tally.agreement(name, kappa, bootstrap.level)
        })
        .collect();
    let overall = rows.remove(0);
    PairAgreement {
        first: first.summary.judge.name.clone(),
        second: second.summary.judge.name.clone(),
        overall,
        l1: rows,
        score_differences: BTreeMap::new(),
        probabilities: ProbabilityAgreement::of(answers, items, images),
        items_in_dispute,
        worst: disputes,
    }
}

fn yes_or_no(verdict: Verdict) -> Option<bool> {
    match verdict {
        Verdict::Yes => Some(true),
        Verdict::No => Some(false),
        _ => None,
    }
}
