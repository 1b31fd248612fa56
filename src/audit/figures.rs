//! In: a scored run, the sample of its audit and its labels. Out: every figure of the run as units of a survey, from which
//! `statistics::prediction_powered` corrects it.

use std::collections::{BTreeMap, HashMap};

use super::draw::Strata;
use super::people::{Class, People, QuestionKey};
use super::population::Population;
use crate::aggregate::Stage;
use crate::aggregate::category_order::table_order;
use crate::score::RunScore;
use crate::statistics::prediction_powered::{Unit as SurveyUnit, stands_for};

/// What a figure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Figure<'a> {
    /// The benchmark score: the mean over items of the means over their images of the shares of yes.
    Score,
    /// The share of yes among the questions of a broad category.
    Category(&'a str),
}

/// A population with what the judge and people say of it.
pub(super) struct Answered<'a, 'r> {
    /// The units that could be drawn.
    pub population: &'r Population<'a>,
    /// Their strata.
    pub strata: &'r Strata,
    /// What people say of those that were.
    pub people: &'r People,
    /// Per item of the run whether its units are looked at; all where it is `None`.
    pub only: Option<&'r [bool]>,
}

impl<'a> Answered<'a, '_> {
    /// The broad categories of its questions, in table order.
    pub(super) fn categories(&self) -> Vec<&'a str> {
        let mut names: Vec<&str> = self.questions().map(|(_, category, _)| category).collect();
        names.sort_by(|a, b| table_order(a, b));
        names.dedup();
        names
    }

    /// The questions about images that can be drawn, with their strata.
    fn questions(&self) -> impl Iterator<Item = (QuestionKey, &'a str, usize)> {
        let units = self.population.units.iter().zip(&self.strata.of_unit);
        let is_wanted = |place: usize| self.only.is_none_or(|only| only[place]);
        units.filter(move |(unit, _)| is_wanted(unit.place)).flat_map(|(unit, &stratum)| {
            let item = unit.item;
            unit.questions().map(move |position| {
                let category = item.graph.questions()[position].category.l1();
                ((unit.place, unit.image, position), category, stratum)
            })
        })
    }

    /// The units of `figure`, one per question about an image that can be drawn. `score` holds what the judge's answers count as;
    /// its items are those of the population's run. What counts as nothing (after the rule, a question below one without an answer)
    /// has no size.
    pub(super) fn units(
        &self,
        score: &RunScore<'_>,
        figure: Figure<'_>,
        stage: Stage,
    ) -> Vec<SurveyUnit> {
        let judged = |(place, image, position): QuestionKey| {
            let verdicts = score.items.get(place)?.outcome.images.get(image as usize)?;
            let verdicts = match stage {
                Stage::Raw => &verdicts.raw,
                Stage::Conditional => &verdicts.ruled,
            };
            verdicts.get(position)?.weight()
        };
        let people = match stage {
            Stage::Raw => &self.people.raw,
            Stage::Conditional => &self.people.ruled,
        };
        // Counted questions of each image, and images of each item that have such.
        let mut counted: HashMap<(usize, u32), f64> = HashMap::new();
        let mut images: HashMap<usize, f64> = HashMap::new();
        if figure == Figure::Score {
            for (key, ..) in self.questions().filter(|(key, ..)| judged(*key).is_some()) {
                *counted.entry((key.0, key.1)).or_default() += 1.0;
            }
            counted.keys().for_each(|(place, _)| *images.entry(*place).or_default() += 1.0);
        }
        let unit = |(key, category, stratum): (QuestionKey, &str, usize)| {
            let judged = judged(key);
            let size = match figure {
                Figure::Score => {
                    let of_image = counted.get(&(key.0, key.1)).copied().unwrap_or(1.0);
                    1.0 / (of_image * images.get(&key.0).copied().unwrap_or(1.0))
                }
                Figure::Category(name) => f64::from(u8::from(name == category)),
            };
            let size = if judged.is_some() { size } else { 0.0 };
            SurveyUnit {
                cluster: key.0,
                stratum,
                size,
                judged: size * judged.unwrap_or(0.0),
                labelled: people.get(&key).map(|share| size * share),
            }
        };
        self.questions().map(unit).collect()
    }

    /// Per unit of `units` how far its label moves the figure by way of labels that were filled in with a mean which it is part of,
    /// as a part of the figure's numerator; they add up to 0. Nothing of the kind is filled in before the rule.
    pub(super) fn leans(&self, units: &[SurveyUnit], stage: Stage) -> Vec<f64> {
        let filled = &self.people.filled;
        if stage == Stage::Raw || filled.takers.is_empty() {
            return Vec::new();
        }
        // By class, what one more of its mean would add to the numerator.
        let mut taken: BTreeMap<Class, f64> = BTreeMap::new();
        for (((key, ..), unit), weight) in self.questions().zip(units).zip(stands_for(units)) {
            for (class, part) in filled.takers.get(&key).into_iter().flatten() {
                *taken.entry(*class).or_default() += weight * unit.size * part;
            }
        }
        let lean = |(key, ..): (QuestionKey, &str, usize)| -> f64 {
            let given = filled.givers.get(&key).into_iter().flatten();
            given.filter_map(|(class, part)| Some(taken.get(class)? * part)).sum()
        };
        self.questions().map(lean).collect()
    }
}
