//! In: the verdicts of a run. Out: every figure as its items' shares, from which figures, intervals and
//! comparisons are made.

use std::collections::BTreeMap;

use crate::score::{ImageVerdicts, Protocol, RunScore};
use crate::statistics::ItemRatio;

use super::category_figures::{Stage, table_order};

/// The figures of a run under one protocol, each as its items' shares in the order of the run's items.
#[derive(Debug, Clone, PartialEq)]
pub struct Shares {
    /// The benchmark score: each item's score, in 0..=1.
    pub overall: ItemRatio,
    /// Broad categories, in table order.
    pub l1: Vec<CategoryShares>,
    /// Detailed categories, in table order.
    pub l2: Vec<CategoryShares>,
}

/// One category's yes and counted questions (one per image) of each item.
#[derive(Debug, Clone, PartialEq)]
pub struct CategoryShares {
    /// L1 name (`attribute`) or L2 name with its L1 (`attribute - color`).
    pub name: String,
    /// Before the dependency rule.
    pub raw: ItemRatio,
    /// After it; without counts under `reference`, whose script has no such figure.
    pub conditional: ItemRatio,
}

impl CategoryShares {
    /// Those before or after the rule.
    pub fn stage(&self, stage: Stage) -> &ItemRatio {
        match stage {
            Stage::Raw => &self.raw,
            Stage::Conditional => &self.conditional,
        }
    }
}

type Tallies<'a> = BTreeMap<&'a str, [ItemRatio; 2]>;

impl Shares {
    /// Counts a run. `reference` counts the last image of scored items in its categories, before the
    /// rule. `corrected` counts every image, before and after the rule.
    pub fn of(score: &RunScore<'_>) -> Self {
        let items = score.items.len();
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
                        if stage == 1 && score.protocol == Protocol::Reference {
                            continue;
                        }
                        let Some(is_yes) = verdict.counted() else { continue };
                        for (tallies, name) in [(&mut l1, category.l1()), (&mut l2, category.l2())]
                        {
                            let tally =
                                &mut tallies.entry(name).or_insert_with(|| blank(items))[stage];
                            tally.numerators[index] += f64::from(u8::from(is_yes));
                            tally.denominators[index] += 1.0;
                        }
                    }
                }
            }
        }
        let scores = score.items.iter().map(|item| item.outcome.score.as_ref().ok().copied());
        Self { overall: ItemRatio::mean_of(scores), l1: in_table_order(l1), l2: in_table_order(l2) }
    }

    /// Every figure's shares: overall, then L1 and L2 in order, raw before conditional.
    pub fn all(&self) -> impl Iterator<Item = &ItemRatio> {
        let categories = self.l1.iter().chain(&self.l2);
        std::iter::once(&self.overall)
            .chain(categories.flat_map(|category| [&category.raw, &category.conditional]))
    }

    /// The same figures over the items of those `places` alone, in that order.
    pub fn of_items(&self, places: &[usize]) -> Self {
        let pick = |ratio: &ItemRatio| ItemRatio {
            numerators: places.iter().map(|&place| ratio.numerators[place]).collect(),
            denominators: places.iter().map(|&place| ratio.denominators[place]).collect(),
        };
        let categories = |categories: &[CategoryShares]| {
            let pick = |category: &CategoryShares| CategoryShares {
                name: category.name.clone(),
                raw: pick(&category.raw),
                conditional: pick(&category.conditional),
            };
            categories.iter().map(pick).collect()
        };
        Self { overall: pick(&self.overall), l1: categories(&self.l1), l2: categories(&self.l2) }
    }
}

fn blank(items: usize) -> [ItemRatio; 2] {
    let blank = ItemRatio { numerators: vec![0.0; items], denominators: vec![0.0; items] };
    [blank.clone(), blank]
}

fn in_table_order(tallies: Tallies<'_>) -> Vec<CategoryShares> {
    let mut shares: Vec<CategoryShares> = tallies
        .into_iter()
        .map(|(name, [raw, conditional])| CategoryShares {
            name: name.to_owned(),
            raw,
            conditional,
        })
        .collect();
    shares.sort_by(|a, b| table_order(&a.name, &b.name));
    shares
}
