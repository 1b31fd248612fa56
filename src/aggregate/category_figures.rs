//! In: the verdicts of a run. Out: the share of yes per category, at both levels.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::benchmark::category::l1_of;
use crate::score::{ImageVerdicts, Protocol, RunScore, Verdict};

use super::estimate::Estimate;

/// The broad categories in the order of the reference's table.
pub const L1_ORDER: [&str; 5] = ["global", "entity", "attribute", "relation", "other"];

/// Which verdicts a category figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before the dependency rule: how often the judge said yes.
    Raw,
    /// After it: how often it said yes with every ancestor's yes.
    Conditional,
}

/// One category's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CategoryFigure {
    /// L1 name (`attribute`) or L2 name with its L1 (`attribute - color`).
    pub name: String,
    /// Before the dependency rule.
    pub raw: Option<Estimate>,
    /// After the dependency rule; absent under `reference`, whose script has no such figure.
    pub conditional: Option<Estimate>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    k: u64,
    n: u64,
    items: u64,
    /// 1 + index of the item counted last.
    last_item: usize,
}

impl Tally {
    fn add(&mut self, item: usize, is_yes: bool) {
        self.k += u64::from(is_yes);
        self.n += 1;
        if self.last_item != item + 1 {
            self.last_item = item + 1;
            self.items += 1;
        }
    }

    fn estimate(self) -> Option<Estimate> {
        Estimate::of_counts(self.k, self.n, self.items)
    }
}

type Tallies<'a> = BTreeMap<&'a str, [Tally; 2]>;

/// The figures per L1 and per L2 category, in table order: the five L1 names of the reference first,
/// others after them, L2 names alphabetically within their L1.
///
/// `reference` counts the last image of scored items, before the rule. `corrected` counts every
/// image, before and after the rule.
pub fn category_figures(score: &RunScore<'_>) -> (Vec<CategoryFigure>, Vec<CategoryFigure>) {
    let (mut l1, mut l2) = (Tallies::new(), Tallies::new());
    for (index, scored) in score.items.iter().enumerate() {
        let images: &[ImageVerdicts] = match (score.protocol, &scored.outcome.score) {
            (Protocol::Corrected, _) => &scored.outcome.images,
            (Protocol::Reference, Ok(_)) => {
                let images = &scored.outcome.images;
                &images[images.len().saturating_sub(1)..]
            }
            (Protocol::Reference, Err(_)) => &[],
        };
        let questions = scored.item.graph.questions();
        for image in images {
            for (position, question) in questions.iter().enumerate() {
                let category = &question.category;
                for (stage, verdict) in
                    [image.raw[position], image.ruled[position]].iter().enumerate()
                {
                    if let Some(is_yes) = verdict.counted() {
                        l1.entry(category.l1()).or_default()[stage].add(index, is_yes);
                        l2.entry(category.l2()).or_default()[stage].add(index, is_yes);
                    }
                }
            }
        }
    }
    (in_table_order(l1, score.protocol), in_table_order(l2, score.protocol))
}

/// Yes and counted questions after the rule, over the images that the protocol scores.
pub fn counts_after_rule(score: &RunScore<'_>) -> (u64, u64) {
    let scored = score.items.iter().filter(|item| item.outcome.score.is_ok());
    let verdicts = scored.flat_map(|item| &item.outcome.images).flat_map(|image| &image.ruled);
    verdicts.fold((0, 0), |(k, n), verdict| match verdict.counted() {
        Some(is_yes) => (k + u64::from(is_yes), n + 1),
        None => (k, n),
    })
}

/// How many of a run's questions, counted per image, have this verdict before the rule.
pub fn count_raw(score: &RunScore<'_>, verdict: Verdict) -> u64 {
    let images = score.items.iter().flat_map(|item| &item.outcome.images);
    images.flat_map(|image| &image.raw).filter(|&&raw| raw == verdict).count() as u64
}

fn in_table_order(tallies: Tallies<'_>, protocol: Protocol) -> Vec<CategoryFigure> {
    let mut figures: Vec<CategoryFigure> = tallies
        .into_iter()
        .map(|(name, [raw, conditional])| CategoryFigure {
            name: name.to_owned(),
            raw: raw.estimate(),
            conditional: conditional.estimate().filter(|_| protocol == Protocol::Corrected),
        })
        .collect();
    figures.sort_by(|a, b| table_order(&a.name, &b.name));
    figures
}

/// Order of two category names of either level in a table.
pub fn table_order(a: &str, b: &str) -> Ordering {
    let rank =
        |name: &str| L1_ORDER.iter().position(|&l1| l1 == l1_of(name)).unwrap_or(L1_ORDER.len());
    rank(a).cmp(&rank(b)).then_with(|| l1_of(a).cmp(l1_of(b))).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_categories_come_first_and_in_the_reference_order() {
        let mut names = [
            "zebra - x",
            "other",
            "global -",
            "other - count",
            "entity",
            "aardvark",
            "attribute - size",
        ];
        names.sort_by(|a, b| table_order(a, b));
        assert_eq!(
            names,
            [
                "global -",
                "entity",
                "attribute - size",
                "other",
                "other - count",
                "aardvark",
                "zebra - x"
            ]
        );
    }
}
