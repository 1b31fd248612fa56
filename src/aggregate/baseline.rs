//! In: a scored run. Out: what another run is compared with: every item's score and counts, small enough
//! to be committed beside the code of a model. Back again: the shares that it holds.

use serde::{Deserialize, Serialize};

use crate::benchmark::category::l1_of;
use crate::results::progress::is_zero;
use crate::results::{FORMAT_VERSION, FormatVersion};
use crate::score::{Protocol, RunScore};
use crate::statistics::ItemRatio;

use super::dropped_questions::DroppedQuestions;
use super::shares::{CategoryShares, Shares};
use super::summary::{JudgeIdentity, RunIdentity};

/// What [`Baseline::kind`] says.
pub const KIND: &str = "baseline";

/// A run as far as another can be compared with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Version of the file.
    pub format_version: FormatVersion,
    /// `baseline`.
    pub kind: String,
    /// What was scored.
    pub run: RunIdentity,
    /// Who answered.
    pub judge: JudgeIdentity,
    /// The rules.
    pub protocol: Protocol,
    /// Questions (one per image) that the selected items raise.
    pub questions_expected: u64,
    /// Those with an answer.
    pub questions_answered: u64,
    /// Answers that cannot be read and were left out, in files of earlier versions, which are refused; else 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreadable_answers: u64,
    /// Which questions the user had left out; absent where none were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_questions: Option<DroppedQuestions>,
    /// The L2 categories that [`ItemCounts::counts`] numbers.
    pub categories: Vec<String>,
    /// The items, in order.
    pub items: Vec<ItemCounts>,
}

/// One item of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemCounts {
    /// Item id.
    pub id: String,
    /// Its score, in 0..=1; absent where it has none.
    pub score: Option<f64>,
    /// Per category: its number, yes and counted questions (one per image) before the dependency rule,
    /// and the same after it.
    pub counts: Vec<[u32; 5]>,
    /// Under `soft`: per entry of `counts` the sums of what its questions count as, before and after the rule, in place of the
    /// numbers of yes, which are these sums rounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sums: Vec<[f64; 2]>,
}

impl ItemCounts {
    /// Yes and counted questions before the rule, and the same after it, of the categories whose numbers are `chosen`.
    fn of(&self, chosen: &[bool]) -> [[f64; 2]; 2] {
        let mut total = [[0.0; 2]; 2];
        for (place, &[category, yes, counted, yes_after, counted_after]) in
            self.counts.iter().enumerate()
        {
            if chosen.get(category as usize) == Some(&true) {
                let sums = self.sums.get(place).copied();
                let [before, after] = sums.unwrap_or([f64::from(yes), f64::from(yes_after)]);
                let own = [[before, f64::from(counted)], [after, f64::from(counted_after)]];
                for (total, own) in total.as_flattened_mut().iter_mut().zip(own.as_flattened()) {
                    *total += own;
                }
            }
        }
        total
    }
}

impl Baseline {
    /// Of a scored run.
    pub fn of(
        run: RunIdentity,
        judge: JudgeIdentity,
        score: &RunScore<'_>,
        (questions_answered, questions_expected): (u64, u64),
    ) -> Self {
        let shares = Shares::of(score);
        let count = |ratio: &ItemRatio, item: usize| {
            // Counts are small, and whole but for sums of shares.
            [ratio.numerators[item].round() as u32, ratio.denominators[item] as u32]
        };
        let items = score.items.iter().enumerate().map(|(item, scored)| {
            let categories = (0..).zip(&shares.l2).filter_map(|(number, category)| {
                let [yes, counted] = count(&category.raw, item);
                let [yes_after, counted_after] = count(&category.conditional, item);
                let sums = [category.raw.numerators[item], category.conditional.numerators[item]];
                (counted + counted_after > 0)
                    .then_some(([number, yes, counted, yes_after, counted_after], sums))
            });
            let (counts, sums): (Vec<_>, Vec<_>) = categories.unzip();
            ItemCounts {
                id: scored.item.id.clone(),
                score: scored.outcome.score.as_ref().ok().copied(),
                counts,
                sums: if score.protocol == Protocol::Soft { sums } else { Vec::new() },
            }
        });
        Self {
            format_version: FORMAT_VERSION,
            kind: KIND.to_owned(),
            run,
            judge,
            protocol: score.protocol,
            questions_expected,
            questions_answered,
            unreadable_answers: 0,
            dropped_questions: None,
            items: items.collect(),
            categories: shares.l2.into_iter().map(|category| category.name).collect(),
        }
    }

    /// Whether every selected question has an answer.
    pub fn is_complete(&self) -> bool {
        self.gap().is_none()
    }

    /// What is missing of a run that is not complete.
    pub fn gap(&self) -> Option<String> {
        let Self { questions_answered: answered, questions_expected: expected, .. } = self;
        (answered != expected).then(|| format!("{answered} of {expected} questions have an answer"))
    }

    /// The shares of the items at `places`, in that order, for the L2 categories `names` and the L1
    /// categories `broad`. A category that the run does not have counts nothing.
    pub fn shares(&self, places: &[usize], broad: &[&str], names: &[&str]) -> Shares {
        let items: Vec<&ItemCounts> = places.iter().map(|&place| &self.items[place]).collect();
        let category = |name: &str, belongs: &dyn Fn(&str) -> bool| {
            let numbers: Vec<bool> =
                self.categories.iter().map(|category| belongs(category)).collect();
            let totals: Vec<[[f64; 2]; 2]> = items.iter().map(|item| item.of(&numbers)).collect();
            let ratio = |stage: usize| ItemRatio {
                numerators: totals.iter().map(|total| total[stage][0]).collect(),
                denominators: totals.iter().map(|total| total[stage][1]).collect(),
            };
            CategoryShares { name: name.to_owned(), raw: ratio(0), conditional: ratio(1) }
        };
        Shares {
            overall: ItemRatio::mean_of(items.iter().map(|item| item.score)),
            l1: broad.iter().map(|&name| category(name, &|l2| l1_of(l2) == name)).collect(),
            l2: names.iter().map(|&name| category(name, &|l2| l2 == name)).collect(),
        }
    }
}
