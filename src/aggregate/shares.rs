//! In: the verdicts of a run. Out: every figure as its items' shares, from which figures, intervals and
//! comparisons are made.

use std::collections::HashMap;

use super::category_order::table_order;
use crate::score::{ImageVerdicts, Protocol, RunScore};
use crate::statistics::ItemRatio;

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

/// One category's yes (or shares of a yes) and counted questions (one per image) of each item.
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

impl Shares {
    /// Counts a run. `reference` counts the last image of scored items in its categories, before the
    /// rule. `corrected` and `soft` count every image, before and after the rule. `soft_tifa_gm` has no categories.
    pub fn of(score: &RunScore<'_>) -> Self {
        let items = score.items.len();
        let (mut l1, mut l2) = (Tallies::new(items), Tallies::new(items));
        for (index, scored) in score.items.iter().enumerate() {
            let images: &[ImageVerdicts] = match (score.protocol, &scored.outcome.score) {
                (Protocol::Corrected | Protocol::Soft, _) => &scored.outcome.images,
                (Protocol::Reference, Ok(_)) => {
                    let images = &scored.outcome.images;
                    &images[images.len().saturating_sub(1)..]
                }
                (Protocol::Reference, Err(_)) | (Protocol::SoftTifaGm, _) => &[],
            };
            let stages = if score.protocol == Protocol::Reference { 1 } else { 2 };
            for (position, question) in scored.item.graph.questions().iter().enumerate() {
                // Of the images, yes and counted ones before and after the rule.
                let mut counts = [[0.0; 2]; 2];
                for image in images {
                    let verdicts = [image.raw[position], image.ruled[position]];
                    for (counts, verdict) in counts.iter_mut().zip(verdicts).take(stages) {
                        if let Some(weight) = verdict.weight() {
                            counts[0] += weight;
                            counts[1] += 1.0;
                        }
                    }
                }
                l1.add(question.category.l1(), index, counts);
                l2.add(question.category.l2(), index, counts);
            }
        }
        let scores = score.items.iter().map(|item| item.outcome.score.as_ref().ok().copied());
        Self {
            overall: ItemRatio::mean_of(scores),
            l1: l1.in_table_order(),
            l2: l2.in_table_order(),
        }
    }

    /// The same figures over the items of those `places` alone, in that order.
    pub(crate) fn of_items(&self, places: &[usize]) -> Self {
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

/// The categories of a level, with their counts before and after the rule.
struct Tallies<'a> {
    items: usize,
    places: HashMap<&'a str, usize>,
    categories: Vec<(&'a str, [ItemRatio; 2])>,
}

impl<'a> Tallies<'a> {
    fn new(items: usize) -> Self {
        Self { items, places: HashMap::new(), categories: Vec::new() }
    }

    /// Adds yes and counted questions of both stages to an item; a category of which nothing is counted does
    /// not come to be.
    fn add(&mut self, name: &'a str, item: usize, counts: [[f64; 2]; 2]) {
        if counts.iter().all(|[_, counted]| *counted == 0.0) {
            return;
        }
        let place = *self.places.entry(name).or_insert_with(|| {
            let blank = || ItemRatio {
                numerators: vec![0.0; self.items],
                denominators: vec![0.0; self.items],
            };
            self.categories.push((name, [blank(), blank()]));
            self.categories.len() - 1
        });
        for (ratio, [yes, counted]) in self.categories[place].1.iter_mut().zip(counts) {
            ratio.numerators[item] += yes;
            ratio.denominators[item] += counted;
        }
    }

    fn in_table_order(self) -> Vec<CategoryShares> {
        let mut shares: Vec<CategoryShares> = self
            .categories
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
}

/// Which verdicts a category figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before the dependency rule: how often the judge said yes.
    Raw,
    /// After it: how often it said yes with every ancestor's yes.
    Conditional,
}

impl Stage {
    /// The stage of the category figures that stand beside a protocol's score: after the rule where it has such.
    pub fn of_categories(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Reference | Protocol::SoftTifaGm => Self::Raw,
            Protocol::Corrected | Protocol::Soft => Self::Conditional,
        }
    }
}
